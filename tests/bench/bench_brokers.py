"""Each broker that `securemqtt broker` sets up: messages per second with the library and, beside
it, with plain paho; connections per second; and what revoking one device costs the others.

A figure is about all of a side, client and broker, on this machine: no measure of a broker alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench_revocation import is_broken, out_s
from figures import Figure
from setting import Setting

from securemqtt_tools.broker.kinds import AMQTT, HIVEMQ, MOSQUITTO, RABBITMQ
from support.brokers.doors import Door, open_door
from support.identities.bundles import write_bundle

_MESSAGES = 3_000
_WINDOW = 20  # ours; of paho's the better one counts
_PAHO_WINDOWS = (20, 100)
_CONNECTIONS = 100


def measure(setting: Setting, rounds: int = 5) -> Iterator[Figure]:
    """Yield the figures of one broker after another."""
    for engine in (MOSQUITTO, AMQTT, HIVEMQ, RABBITMQ):
        directory = setting.directory / f"of-{engine}"
        directory.mkdir()
        with open_door(setting.authority, directory, engine) as door:
            name = door.broker.title
            yield from _rates(setting, door, name, rounds)
            yield from _connections(door, name)


def _rates(setting: Setting, door: Door, name: str, rounds: int) -> Iterator[Figure]:
    ours_id, paho_id = door.new_id("ours"), door.new_id("paho")
    ours_at, paho_at = (
        write_bundle(door.directory / one, door.authority, one, port=door.port)
        for one in (ours_id, paho_id)
    )
    door.update()
    ours: list[float] = []
    paho: dict[int, list[float]] = {window: [] for window in _PAHO_WINDOWS}
    for _ in range(rounds):
        ours.append(setting.cpython("rate_securemqtt.py", ours_at, _MESSAGES, _WINDOW))
        for window, rates in paho.items():
            rates.append(setting.cpython("rate_paho.py", paho_at, _MESSAGES, window))
    best = max(paho, key=lambda window: statistics.median(paho[window]))
    yield Figure(f"{name}: securemqtt, messages per second", {64: ours})
    yield Figure(f"{name}: plain paho, window {best}, messages per second", {64: paho[best]})
    ratios = [mine / theirs for mine, theirs in zip(ours, paho[best], strict=True)]
    yield Figure(f"{name}: against plain paho", {64: ratios})


def _connections(door: Door, name: str) -> Iterator[Figure]:
    others = {one: door.credentials(one) for one in map(door.new_id, ["one"] * _CONNECTIONS)}
    revoked = door.new_id("revoked")
    credentials = door.credentials(revoked)
    door.update()
    with ExitStack() as stack:
        began = time.monotonic()
        peers = [stack.enter_context(door.enter(*one)) for one in others.items()]
        yield Figure(
            f"{name}: connections per second, one after another",
            {64: [_CONNECTIONS / (time.monotonic() - began)]},
        )
        yield Figure(
            f"{name}: until a revoked one is out, s", {64: [out_s(door, revoked, credentials)]}
        )
        broken = float(sum(map(is_broken, peers)))
        yield Figure(f"{name}: of {_CONNECTIONS} others, connections that broke", {64: [broken]})
