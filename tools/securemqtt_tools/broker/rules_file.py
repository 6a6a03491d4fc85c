"""The file of the rules, beside the inventory, and its copy in the broker's directory.

Of two that differ the one with more changes counts, wherever it is: an authority that comes from a
backup does not give back what was denied since.

A file with networks is of a format of its own, so that a version of securemqtt that knows none does
not go by the rest of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from securemqtt_tools.broker.networks import Binding, parse_network
from securemqtt_tools.broker.rules import DENY, READ, WRITE, Rule, Rules
from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.files import explained, write_file

NAME = "rules.json"
_FORMAT = 1
_FORMAT_WITH_NETWORKS = 2
_NAMED = 5  # of those whose networks are not enforced; more are counted


def read_rules(directory: Path) -> Rules:
    """Read the rules of a directory, none where there is no file. Raise FatalError."""
    path = directory / NAME
    with explained(f"read {path}"):
        if not path.exists():
            return Rules()
        content = path.read_bytes()
    try:
        values = json.loads(content)
        if values["format"] not in (_FORMAT, _FORMAT_WITH_NETWORKS):
            raise FatalError(f"{path} is of another version of securemqtt: update securemqtt")
        if (values["format"] == _FORMAT_WITH_NETWORKS) != ("networks" in values):
            raise ValueError(f"networks are in a file of format {_FORMAT_WITH_NETWORKS}")
        rules = Rules(
            int(values["number"]),
            {str(group): frozenset(members) for group, members in values["groups"].items()},
            tuple(_line(one) for one in values["rules"]),
            tuple(_binding(one) for one in values.get("networks", ())),
        )
        rules.check()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FatalError(
            f"{path} is damaged ({error}): restore it from a backup, or delete it and make the "
            f"rules anew"
        ) from error
    return rules


def newest_rules(*directories: Path) -> Rules:
    """Return the rules of the one of these directories that has more changes, the first of equals.
    Raise FatalError.
    """
    return max(map(read_rules, directories), key=lambda rules: rules.number)


def write_rules(directory: Path, rules: Rules) -> None:
    """Write the rules into a directory. Raise FatalError."""
    values: dict[str, Any] = {
        "format": _FORMAT_WITH_NETWORKS if rules.networks else _FORMAT,
        "number": rules.number,
        "groups": {group: sorted(members) for group, members in sorted(rules.groups.items())},
        "rules": [
            {"group" if one.is_group else "id": one.who, one.action: one.topic_filter}
            for one in rules.lines
        ],
    }
    if rules.networks:
        values["networks"] = [
            {"group" if one.is_group else "id": one.who, "network": str(one.network)}
            for one in rules.networks
        ]
    write_file(directory / NAME, (json.dumps(values, indent=1) + "\n").encode())


def reconcile(authority: Path, broker: Path) -> Rules:
    """Have both directories hold the newer rules of the two, and return those. Raise FatalError."""
    ours, theirs = read_rules(authority), read_rules(broker)
    newest = newest_rules(authority, broker)
    for directory, rules in ((authority, ours), (broker, theirs)):
        if rules != newest:
            write_rules(directory, newest)
    return newest


def unenforced(broker: str, directory: Path) -> list[str]:
    """Return what a kind of broker that looks at no address, named for people, does not do of the
    rules in a directory: a sentence, if it is anything. Raise FatalError.
    """
    bound = sorted({one.whom for one in read_rules(directory).networks})
    if not bound:
        return []
    whose = ", ".join(bound) if len(bound) <= _NAMED else f"{len(bound)} groups and ids"
    return [
        as_called(
            f"{broker} looks at no address: with it, the networks of {whose} are not enforced, and "
            f"each comes in from anywhere. A firewall before its port keeps other networks out, "
            f"for all alike; securemqtt broker audit-log names who has come from elsewhere"
        )
    ]


def change(authority: Authority, broker: Path | None, edit: Callable[[Rules], Rules]) -> Rules:
    """Change the rules beside an inventory, and in a broker's directory; return them. Of several
    processes that do so at once, none undoes what another has done. Raise FatalError, and change
    nothing.
    """
    with authority.inventory.transaction():  # its lock is theirs, too
        directory = authority.directory
        before = reconcile(directory, broker) if broker else read_rules(directory)
        after = edit(before)
        if after != before:
            after = replace(after, number=before.number + 1)
            after.check()
            for one in filter(None, (broker, directory)):
                write_rules(one, after)
    return after


def _line(values: dict[str, Any]) -> Rule:
    (action,) = values.keys() & {READ, WRITE, DENY}
    is_group = "group" in values
    return Rule(str(values["group" if is_group else "id"]), is_group, action, values[action])


def _binding(values: dict[str, Any]) -> Binding:
    is_group = "group" in values
    who = str(values["group" if is_group else "id"])
    return Binding(who, is_group, parse_network(str(values["network"])))
