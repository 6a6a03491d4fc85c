"""Who may do what: one set of rules, which each broker gets in its own form.

Every identity has its own prefix, `devices/<id>/#`, to read and to write. A role gives a named
identity more. Rules give to a group of identities, or to one, or take away: what is denied may be
neither read nor written, whatever else says so. A group, or an identity, may have to come from
certain networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from securemqtt.protocol.topics import PREFIX, covers, problem
from securemqtt_tools.broker.networks import Binding, Network, is_within
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.names import check_device_id

READ = "read"
WRITE = "write"
DENY = "deny"
ACTIONS = (READ, WRITE, DENY)


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


@dataclass(frozen=True)
class Access:
    """What one identity may do, as topic filters."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    denied: tuple[str, ...] = ()

    def allows(self, action: str, topic_filter: str) -> bool:
        """Return True if READ or WRITE may be done to all that a topic or filter stands for. A
        filter of which a part is denied may be subscribed to; what is denied does not come by it.
        """
        allowed = self.read if action == READ else self.write
        return covered(allowed, topic_filter) and not covered(self.denied, topic_filter)


@dataclass(frozen=True)
class Rule:
    """One rule; `action` is READ, WRITE, or DENY, which is for both."""

    who: str
    is_group: bool
    action: str
    topic_filter: str

    def __str__(self) -> str:
        whom = f"group {self.who}" if self.is_group else self.who
        verb = "is denied" if self.action == DENY else f"may {self.action}"
        return f"{whom} {verb} {self.topic_filter}"


@dataclass(frozen=True)
class Rules:
    """The groups, the rules, and the networks that some have to come from. `number` counts the
    changes, so that older ones are known.
    """

    number: int = 0
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    lines: tuple[Rule, ...] = ()
    networks: tuple[Binding, ...] = ()

    def check(self) -> None:
        """Raise FatalError for a name that cannot be meant, or a filter that a broker would not
        take.
        """
        for group, members in self.groups.items():
            check_group(group)
            for member in members:
                check_device_id(member)
        for line in self.lines:
            (check_group if line.is_group else check_device_id)(line.who)
            if line.action not in ACTIONS:
                raise FatalError(f"{line.action!r} is no action: use one of {', '.join(ACTIONS)}")
            check_filter(line.topic_filter)
        for one in self.networks:
            (check_group if one.is_group else check_device_id)(one.who)

    def groups_of(self, identity: str) -> list[str]:
        """Return the groups that an identity is in, by name."""
        return sorted(group for group, members in self.groups.items() if identity in members)

    def lines_for(self, identity: str) -> list[Rule]:
        """Return the rules that an identity is concerned by."""
        groups = set(self.groups_of(identity))
        return [
            line
            for line in self.lines
            if (line.who in groups if line.is_group else line.who == identity)
        ]

    def identities(self) -> set[str]:
        """Return all who have more, or less, than their own prefix by a rule."""
        found = {line.who for line in self.lines if not line.is_group}
        for group in {line.who for line in self.lines if line.is_group}:
            found |= self.groups.get(group, frozenset())
        return found

    def access(self, identity: str, role: str | None = None) -> Access:
        """Return what an identity may do, with the role that it has, a name in ROLES."""
        by_role = ROLES.get(role or "", Role("", ()))
        lines = self.lines_for(identity)

        def filters(action: str, *others: str) -> tuple[str, ...]:
            mine = (line.topic_filter for line in lines if line.action == action)
            return tuple(dict.fromkeys((*others, *mine)))

        own = own_filter(identity)
        return Access(
            filters(READ, own, *by_role.read), filters(WRITE, own, *by_role.write), filters(DENY)
        )

    def networks_of(self, identity: str) -> tuple[Network, ...]:
        """Return the networks of which an identity has to come from one; none where it may come
        from anywhere. Its own, where it has some, count in place of those of all its groups.
        """
        own = [one for one in self.networks if not one.is_group and one.who == identity]
        if not own and self.networks:
            groups = set(self.groups_of(identity))
            own = [one for one in self.networks if one.is_group and one.who in groups]
        return tuple(dict.fromkeys(one.network for one in own))

    def may_come_from(self, identity: str, address: str) -> bool:
        """Return True if an identity may come from an address."""
        networks = self.networks_of(identity)
        return not networks or is_within(networks, address)

    def bound(self) -> set[str]:
        """Return all who have to come from certain networks."""
        found = {one.who for one in self.networks if not one.is_group}
        for group in {one.who for one in self.networks if one.is_group}:
            found |= self.groups.get(group, frozenset())
        return found

    def with_networks(self, bindings: Iterable[Binding]) -> Rules:
        """Return rules with these networks as well, each once."""
        return replace(self, networks=tuple(dict.fromkeys((*self.networks, *bindings))))

    def without_networks(self, bindings: Iterable[Binding]) -> Rules:
        """Return rules without these networks."""
        gone = set(bindings)
        return replace(self, networks=tuple(one for one in self.networks if one not in gone))

    def with_lines(self, *lines: Rule) -> Rules:
        """Return rules with these as well, each once."""
        return replace(self, lines=tuple(dict.fromkeys((*self.lines, *lines))))

    def without_lines(self, lines: Iterable[Rule]) -> Rules:
        """Return rules without these, and without the groups in which nobody is and that no other
        rule, and no network, has the name of.
        """
        gone = set(lines)
        left = replace(self, lines=tuple(one for one in self.lines if one not in gone))
        named = left.named_groups()
        groups = {group: ids for group, ids in self.groups.items() if ids or group in named}
        return replace(left, groups=groups)

    def named_groups(self) -> set[str]:
        """Return the groups that a rule or a network has the name of."""
        of_rules = {one.who for one in self.lines if one.is_group}
        return of_rules | {one.who for one in self.networks if one.is_group}

    def with_members(self, group: str, joining: Iterable[str], leaving: Iterable[str]) -> Rules:
        """Return rules where some have joined a group, which is made, and some have left it, which
        is no more once nobody is in it and no rule and no network has its name.
        """
        members = (self.groups.get(group, frozenset()) | set(joining)) - set(leaving)
        groups = {**self.groups, group: members}
        if not members and group not in self.named_groups():
            del groups[group]
        return replace(self, groups=groups)


def own_prefix(identity: str) -> str:
    """Return an identity's own prefix, without a / at the end."""
    return PREFIX + identity


def own_filter(identity: str) -> str:
    """Return the topic filter of an identity's own prefix."""
    return f"{own_prefix(identity)}/#"


def check_group(name: str) -> str:
    """Return a group's name back; raise FatalError for one that cannot be."""
    try:
        return check_device_id(name)
    except FatalError as error:
        raise FatalError(
            f"{name!r} is no name of a group: use 1 to 64 of the characters A-Z a-z 0-9 _ -, the "
            f"first of them no -"
        ) from error


def check_filter(topic_filter: str) -> str:
    """Return a topic filter back; raise FatalError for one that not every broker takes."""
    fault = problem(topic_filter, True)
    if fault is None and topic_filter.startswith("$share/"):
        fault = "a rule is for topics, whether they come by a shared subscription or not"
    if fault is None and topic_filter.startswith("~"):
        fault = "an identity has all of its own prefix already"
    if fault is None and (topic_filter != topic_filter.strip() or not topic_filter.isprintable()):
        fault = "it begins or ends with a blank, or has what cannot be printed"
    if fault is not None:
        raise FatalError(f"{topic_filter!r} is no topic for a rule: {fault}")
    return topic_filter


def covered(filters: Iterable[str], topic_filter: str) -> bool:
    """Return True if one of `filters` covers all that `topic_filter` (a topic or a filter) can
    match.
    """
    return any(covers(one, topic_filter) for one in filters)


def prefix_covered(filters: Iterable[str], prefix: str) -> bool:
    """Return True if one who may write to `filters` may write to all that begins with ~, if that
    stands for `prefix`.
    """
    return covered(filters, f"{prefix}/#")
