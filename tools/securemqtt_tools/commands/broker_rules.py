"""`securemqtt broker allow`, `deny`, `rules`, `group`, `who-may`: who may do what, by groups and
ids.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Iterable, Iterator

from rich.table import Table
from rich.text import Text

from securemqtt.platform import escaped
from securemqtt.protocol.topics import covers, problem
from securemqtt_tools import completion
from securemqtt_tools.broker.config import SETTINGS, BrokerConfig
from securemqtt_tools.broker.networks import Binding, Network, listed
from securemqtt_tools.broker.rules import (
    DENY,
    READ,
    ROLES,
    WRITE,
    Rule,
    Rules,
    check_filter,
    check_group,
    covered,
    own_filter,
)
from securemqtt_tools.broker.rules_file import NAME, change, newest_rules
from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.commands.broker_common import (
    authority_of,
    directory_of,
    is_authority_here,
    tell,
)
from securemqtt_tools.commands.telling import table_console
from securemqtt_tools.home import Home
from securemqtt_tools.naming import closest
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.entry import ISSUED
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.profiles import DEVICE

_BOTH = "readwrite"
_KINDS = {READ: (READ,), WRITE: (WRITE,), _BOTH: (READ, WRITE)}


def configure_allow(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _add_who(parser)
    parser.add_argument("what", choices=_KINDS, metavar="WHAT", help=", ".join(_KINDS))
    _add_topics(parser)


def configure_deny(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _add_who(parser)
    _add_topics(parser)


def configure_rules(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--remove", type=int, nargs="+", default=[], metavar="N", help="take rules away, by number"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def configure_group(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("group", metavar="GROUP", help="its name; one that is new is made")
    ids = parser.add_argument("ids", nargs="*", metavar="ID", help="ids that join it")
    completion.completed(ids, completion.ids)
    leaving = parser.add_argument(
        "--remove", nargs="+", default=[], metavar="ID", help="ids that leave it"
    )
    completion.completed(leaving, completion.ids)


def configure_who_may(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("topic", metavar="TOPIC", help="a topic, or a filter: all of it")
    identity = parser.add_argument("id", nargs="?", metavar="ID", help="only this one")
    completion.completed(identity, completion.ids)


def allow(args: argparse.Namespace) -> int:
    """Give to a group, or to an id."""
    return _add(args, _KINDS[args.what])


def deny(args: argparse.Namespace) -> int:
    """Take from a group, or from an id, whatever else says so."""
    word, *others = args.topics
    if word in _KINDS and others:
        raise FatalError(
            f"a denial is for reading and writing alike, so leave {word} out: securemqtt broker "
            f"deny {args.who} {shlex.join(others)}; a topic that is called {word} is denied by a "
            f"command of its own"
        )
    return _add(args, (DENY,))


def rules(args: argparse.Namespace) -> int:
    """Show the rules and the groups; take rules away."""
    if args.remove:
        gone: list[Rule] = []

        def without(before: Rules) -> Rules:
            for number in args.remove:
                if not 0 < number <= len(before.lines):
                    raise FatalError(
                        f"there is no rule {number}: securemqtt broker rules shows them"
                    )
                gone.append(before.lines[number - 1])
            return before.without_lines(gone)

        change_rules(args, authority_of(args), without)
        for one in gone:
            print(f"Taken away: {one}.")
        hand_on(args)
        return 0
    now = rules_of(args)
    if args.json:
        print(json.dumps(_facts(now), indent=1))
        return 0
    if not now.lines and not now.groups and not now.networks:
        print("There are no rules: everyone has its own prefix, and what its role gives.")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "who", "what", "topics"):
        table.add_column(title, overflow="fold")
    for number, one in enumerate(now.lines, 1):
        whom = f"group {one.who}" if one.is_group else one.who
        what = "is denied" if one.action == DENY else f"may {one.action}"
        table.add_row(*map(Text, (str(number), whom, what, one.topic_filter)))
    if now.lines:
        table_console().print(table)
    for name in sorted(now.groups):
        print(_members(now, name))
    for line in network_lines(now.networks):
        print(line)
    return 0


def network_lines(bindings: Iterable[Binding]) -> list[str]:
    """Say who has to come from where, a line for each."""
    found: dict[str, list[Network]] = {}
    for one in bindings:
        found.setdefault(one.whom, []).append(one.network)
    return [
        f"{whom} has to come from {listed(networks)}." for whom, networks in sorted(found.items())
    ]


def group(args: argparse.Namespace) -> int:
    """Have ids join a group, or leave it; show who is in it."""
    name = check_group(args.group)
    joining, leaving = (list(map(check_device_id, ids)) for ids in (args.ids, args.remove))
    if joining or leaving:
        authority = authority_of(args)
        if joining:
            check_no_device(authority, name)
        now = join(args, authority, name, joining, leaving)
    else:
        now = rules_of(args)
        if name not in now.groups:
            raise FatalError(f"there is no group {name}: name the ids that are to be in it")
    print(_members(now, name))
    if joining or leaving:
        hand_on(args)
    return 0


def who_may(args: argparse.Namespace) -> int:
    """Say who may read and write a topic, and why; 1 where nobody may, or the one asked for."""
    wrong = problem(args.topic, True)
    if wrong is not None:
        raise FatalError(f"{args.topic!r} is no topic: {wrong}")
    config, now = BrokerConfig.open(directory_of(args)), rules_of(args)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("who", "may", "because of"):
        table.add_column(title, overflow="fold")
    count = 0
    for identity in [check_device_id(args.id)] if args.id else _everybody(args, config, now):
        access = now.access(identity, config.roles.get(identity))
        actions = [one for one in (READ, WRITE) if access.allows(one, args.topic)]
        count += bool(actions)
        if actions or args.id:
            why = ", ".join(_reasons(identity, config, now, args.topic)) or "no rule"
            may = " and ".join(actions) or "neither read nor write"
            if networks := now.networks_of(identity):
                why += f"; has to come from {listed(networks)}"
            table.add_row(*map(Text, (identity, may, why)))
    if table.row_count:
        table_console().print(table)
    else:
        print(escaped(f"Nobody may read or write {args.topic}."))
    return 0 if count else 1


def join(
    args: argparse.Namespace,
    authority: Authority,
    group: str,
    joining: Iterable[str],
    leaving: Iterable[str] = (),
) -> Rules:
    """Have ids join a group, and leave it; the broker takes that up at its next reload. Raise
    FatalError.
    """
    return change_rules(
        args, authority, lambda before: before.with_members(group, joining, leaving)
    )


def check_no_device(authority: Authority, name: str, coming: Iterable[str] = ()) -> None:
    """Raise FatalError where a group's name is a device's id, or of one that is just `coming`: a
    rule would be for which of them?
    """
    if name in coming or authority.inventory.entries(DEVICE, name):
        raise FatalError(f"{name} is the id of a device: choose another name for the group")


def check_no_group(authority: Authority, now: Rules, ids: Iterable[str]) -> None:
    """Raise FatalError where an id that is no device yet is a group's name, for the same reason."""
    for one in ids:
        if one in now.groups and not authority.inventory.entries(DEVICE, one):
            raise FatalError(f"{one} is the name of a group: choose another id")


def _add_who(parser: argparse.ArgumentParser) -> None:
    who = parser.add_argument("who", metavar="WHO", help="a group, or an id")
    completion.completed(who, completion.ids)


def _add_topics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topics", nargs="+", metavar="TOPIC", help="a topic, or a filter, as 'a/#'")


def _add(args: argparse.Namespace, actions: Iterable[str]) -> int:
    topics = list(map(check_filter, args.topics))
    authority = authority_of(args)
    made: list[Rule] = []

    def more(before: Rules) -> Rules:
        is_group = args.who in before.groups
        who = check_device_id(args.who)
        made.extend(Rule(who, is_group, action, one) for one in topics for action in actions)
        return before.with_lines(*made)

    now = change_rules(args, authority, more)
    for one in made:
        print(f"{one}.")
    if not made[0].is_group:
        note_unknown(authority, now, args.who)
    hand_on(args)
    return 0


def note_unknown(authority: Authority, now: Rules, who: str) -> None:
    """Say so where an id has no certificate: it may be meant for a group."""
    if authority.inventory.entries(DEVICE, who):
        return
    meant = closest(who, [*now.groups, *_devices(authority)])
    print(
        as_called(
            f"Note: {who} is no group, so it is taken for an id, which has no certificate yet"
            + (f" (did you mean {meant}?)" if meant else "")
            + ". securemqtt broker group makes a group."
        )
    )


def change_rules(
    args: argparse.Namespace, authority: Authority, edit: Callable[[Rules], Rules]
) -> Rules:
    """Change the rules beside the inventory, and in the broker of the same home. Raise
    FatalError.
    """
    broker = directory_of(args)
    if not (broker / SETTINGS).exists():
        return change(authority, None, edit)
    now = change(authority, broker, edit)
    BrokerConfig.open(broker).follow_rules()
    return now


def hand_on(args: argparse.Namespace) -> None:
    """Have the broker take the rules up, or say how one elsewhere does."""
    broker = directory_of(args)
    if (broker / SETTINGS).exists():
        tell(BrokerConfig.open(broker))
    else:
        print(
            f"A broker elsewhere needs {Home(args.home).ca / NAME} in its directory, and then "
            f"broker reload there (docs/rules.md)."
        )


def rules_of(args: argparse.Namespace) -> Rules:
    """Read the rules beside the inventory, or those of the broker, if they are newer: what holds
    from the broker's next reload on. Raise FatalError.
    """
    home = Home(args.home)
    if not (home.ca.exists() or home.broker.exists()):
        raise FatalError(
            f"there is no authority in {home.ca}, and no broker in {home.broker}: run securemqtt "
            f"ca init"
        )
    return newest_rules(home.ca, home.broker)


def _members(now: Rules, group: str) -> str:
    said = f"Group {group}: {', '.join(sorted(now.groups.get(group, ()))) or 'nobody'}"
    sharing = sorted(now.shared.get(group, ()))
    return said + (f"; its certificate is shared by: {', '.join(sharing)}" if sharing else "")


def _facts(now: Rules) -> dict[str, object]:
    return {
        "groups": {group: sorted(members) for group, members in sorted(now.groups.items())},
        "rules": [
            {
                "number": number,
                "group" if one.is_group else "id": one.who,
                "action": one.action,
                "topic": one.topic_filter,
            }
            for number, one in enumerate(now.lines, 1)
        ],
        "networks": [
            {"group" if one.is_group else "id": one.who, "network": str(one.network)}
            for one in now.networks
        ],
        "shared": {group: sorted(sharing) for group, sharing in sorted(now.shared.items())},
    }


def _everybody(args: argparse.Namespace, config: BrokerConfig, now: Rules) -> list[str]:
    """Return all ids that a rule or a role names, or that have a certificate."""
    found = now.identities() | config.roles.keys()
    if is_authority_here(args):
        found |= _devices(authority_of(args))
    return sorted(found)


def _devices(authority: Authority) -> set[str]:
    now = authority.now
    return {
        one.subject for one in authority.inventory.entries(DEVICE) if one.state_at(now) == ISSUED
    }


def _reasons(identity: str, config: BrokerConfig, now: Rules, topic: str) -> Iterator[str]:
    """Say by what an identity may do something with a topic, or by what not."""
    lines = [one for one in now.lines_for(identity) if covers(one.topic_filter, topic)]
    denied = [one for one in lines if one.action == DENY]
    if denied:
        yield from map(str, denied)
        return
    if covers(own_filter(identity), topic):
        yield "its own prefix"
    role = ROLES.get(config.roles.get(identity, ""))
    if role is not None and covered((*role.read, *role.write), topic):
        yield f"its role, {config.roles[identity]}"
    yield from map(str, lines)
