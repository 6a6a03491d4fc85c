"""Who may do what: the rules that Mosquitto gets as an ACL file and that the embedded broker
applies itself.

Every identity has its own prefix, `devices/<id>/#`, to read and to write. A role gives a named
identity more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from securemqtt.protocol.topics import PREFIX

READ = "read"
WRITE = "write"


@dataclass(frozen=True)
class Role:
    """What an identity may do beyond its own prefix, as topic filters."""

    summary: str
    read: tuple[str, ...]
    write: tuple[str, ...] = ()


ROLES: Mapping[str, Role] = {
    "operator": Role(
        "reads every device and sends it commands", (f"{PREFIX}#",), (f"{PREFIX}+/command/#",)
    ),
    "monitor": Role("reads every device and the broker's own figures", (f"{PREFIX}#", "$SYS/#")),
}


def own_prefix(identity: str) -> str:
    """Return an identity's own prefix, without a / at the end."""
    return PREFIX + identity


def own_filter(identity: str) -> str:
    """Return the topic filter of an identity's own prefix."""
    return f"{own_prefix(identity)}/#"


def permitted(identity: str, roles: Mapping[str, str], action: str) -> list[str]:
    """Return the topic filters that `identity` may READ or WRITE; `roles` maps identities to names
    in ROLES.
    """
    filters = [own_filter(identity)]
    role = ROLES.get(roles.get(identity, ""))
    if role is not None:
        filters += role.read if action == READ else role.write
    return filters


def allows(filters: Iterable[str], topic_filter: str) -> bool:
    """Say whether one of `filters` covers all that `topic_filter` (a topic or a filter) can
    match.
    """
    return any(_covers(one.split("/"), topic_filter.split("/")) for one in filters)


def allows_prefix(filters: Iterable[str], prefix: str) -> bool:
    """Say whether one who may write to `filters` may write to all that begins with ~, if that
    stands for `prefix`.
    """
    return allows(filters, f"{prefix}/#")


def _covers(rule: list[str], asked: list[str]) -> bool:
    if rule[0] != asked[0] and asked[0].startswith("$"):
        return False  # a wildcard in front never stands for a $ topic: MQTT-4.7.2-1
    for level, allowed in enumerate(rule):
        if allowed == "#":
            return True
        if level >= len(asked) or asked[level] == "#" or allowed not in ("+", asked[level]):
            return False
    return len(rule) == len(asked)


def mosquitto_acl(roles: Mapping[str, str]) -> str:
    """Write the rules as a Mosquitto ACL file."""
    lines = [
        "# Written by securemqtt broker. Everyone: the own prefix, nothing else.",
        f"pattern readwrite {own_filter('%u')}",
    ]
    for identity, name in sorted(roles.items()):
        role = ROLES[name]
        lines += ["", f"# {name}: {role.summary}", f"user {identity}"]
        lines += [f"topic read {topic_filter}" for topic_filter in role.read]
        lines += [f"topic write {topic_filter}" for topic_filter in role.write]
    return "\n".join(lines) + "\n"
