"""What a change of the rules takes: ten thousand devices in a hundred groups."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count

from figures import Figure
from setting import Setting

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.rules import READ, WRITE, Rule, Rules
from securemqtt_tools.broker.rules_file import change
from support.brokers.doors import Door, open_door

_GROUPS = 100
_MEMBERS = 100  # of each
_CONNECTED = 100
_numbers = count()


def measure(setting: Setting, rounds: int = 1) -> Iterator[Figure]:
    """Yield, for each broker, the time from the start of a change of the rules until a message
    comes by it.
    """
    for engine in ("mosquitto", "amqtt"):
        taken_s = []
        for _ in range(rounds):
            directory = setting.directory / f"rules-{next(_numbers)}"
            directory.mkdir()
            with ExitStack() as stack:
                door = stack.enter_context(open_door(setting.authority, directory, engine))
                _change(door, _many())
                for number in range(_CONNECTED):
                    stack.enter_context(door.enter(f"other-{next(_numbers)}-{number}"))
                taken_s.append(_held_s(door))
        yield Figure(
            f"until a changed rule holds, {_GROUPS * _MEMBERS} devices in {_GROUPS} groups, "
            f"{engine}, s",
            {64: taken_s},
        )


def _many() -> Rules:
    groups = {
        f"group-{group}": frozenset(f"device-{group}-{member}" for member in range(_MEMBERS))
        for group in range(_GROUPS)
    }
    lines = [
        Rule(group, True, action, f"{action}/{group}/#")
        for group in groups
        for action in (READ, WRITE)
    ]
    return Rules(1, groups, tuple(lines))


def _change(door: Door, rules: Rules) -> None:
    change(
        door.authority,
        door.broker.directory,
        lambda before: replace(rules, number=before.number),
    )
    BrokerConfig.open(door.broker.directory).save()
    door.broker.reload()


def _held_s(door: Door) -> float:
    member, hub = "device-7-7", "device-8-8"
    topic = "write/group-8/new"
    with door.enter(member) as reader, door.enter(hub) as writer:
        reader.subscribe(topic)
        rules = _many()
        began = time.monotonic()
        _change(door, rules.with_lines(Rule("group-7", True, READ, topic)))
        while True:
            reader.subscribe(topic)  # the embedded broker had refused it
            writer.publish(topic, b"new")
            if reader.drain():
                return time.monotonic() - began
