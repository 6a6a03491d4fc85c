"""What becomes of what a broker has kept where another kind comes in its place: each keeps it in a
directory of its own, in a form of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from securemqtt_tools.broker.embedded.engine import Embedded
from securemqtt_tools.broker.hivemq.engine import HiveMQ
from securemqtt_tools.broker.kinds import AMQTT, AUTO, HIVEMQ, MOSQUITTO, RABBITMQ, TITLES
from securemqtt_tools.broker.lock import is_held
from securemqtt_tools.broker.mosquitto.engine import Mosquitto
from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from securemqtt_tools.broker.rabbitmq.engine import RabbitMQ

_KEPT: Mapping[str, str | None] = {
    MOSQUITTO: Mosquitto.kept,
    AMQTT: Embedded.kept,
    HIVEMQ: HiveMQ.kept,
    RABBITMQ: RabbitMQ.kept,
}


def kind_of(name: str) -> str:
    """Return which broker this one of kinds.ENGINES is on this computer."""
    if name != AUTO:
        return name
    return MOSQUITTO if find_mosquitto() else AMQTT


def left_behind(directory: Path, before: str, now: str) -> list[str]:
    """Say that what one kind of broker has kept stays with it where another one, both of
    kinds.ENGINES, comes in its place.
    """
    before, now = kind_of(before), kind_of(now)
    place = _place(directory, before)
    # one that runs may not have saved anything yet
    if before == now or place is None or not (is_held(directory) or _has_content(place)):
        return []
    return [
        f"what is retained, and what waits for devices that are away, stays with {TITLES[before]}, "
        f"in {place}: {TITLES[now]} has none of it. Should {TITLES[before]} run here again, it "
        f"comes back, as old as it is then, unless that directory is deleted"
    ]


def comes_back(directory: Path, before: str, now: str) -> list[str]:
    """Say that what a kind of broker has kept from earlier comes back with it, in the place of
    another one.
    """
    before, now = kind_of(before), kind_of(now)
    place = _place(directory, now)
    if before == now or place is None or not _has_content(place):
        return []
    return [
        f"{TITLES[now]} still has what it kept when it ran here before, in {place}: what was "
        f"retained then, and what waited, comes again, after newer messages. Delete that directory "
        f"before it starts, unless that is what you want"
    ]


def _place(directory: Path, kind: str) -> Path | None:
    kept = _KEPT[kind]
    return None if kept is None else directory / kept


def _has_content(place: Path) -> bool:
    return place.is_dir() and any(place.iterdir())
