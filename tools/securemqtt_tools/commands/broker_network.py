"""`securemqtt broker network`: the networks that a group, or an id, has to come from."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from securemqtt_tools import completion
from securemqtt_tools.broker.networks import Binding, Network, listed, parse_network
from securemqtt_tools.broker.rules import Rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.commands.broker_common import authority_of
from securemqtt_tools.commands.broker_rules import (
    change_rules,
    hand_on,
    network_lines,
    note_unknown,
    rules_of,
)
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.names import check_device_id

EXAMPLES = (
    "network greenhouse 192.0.2.0/24 2001:db8::/32",
    "network pump-7 198.51.100.7",
    "network greenhouse --remove 2001:db8::/32",
    "network",
)
DETAILS = """

Several networks are alternatives: any of them will do. What a group has counts for each member, and
who is in several groups may come from the networks of any of them, since it is at home in each. An
id that has networks of its own has to come from one of those, and those of its groups count no more
for it: so the one device that stands elsewhere is an exception, and a stricter one is, too. Who has
none comes from anywhere.

An address ::ffff:192.0.2.7 is taken for 192.0.2.7; ::/0 is every IPv6 address, and no IPv4 one.

The embedded broker and HiveMQ enforce it: at each connection, and at once for who is connected when
it changes. Mosquitto and RabbitMQ cannot. Behind a proxy every client has the proxy's address."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    who = parser.add_argument("who", nargs="?", metavar="WHO", help="a group, or an id")
    completion.completed(who, completion.ids)
    parser.add_argument(
        "networks", nargs="*", metavar="NET", help="a network, as 192.0.2.0/24, or one address"
    )
    parser.add_argument(
        "--remove", nargs="*", metavar="NET", help="networks to take away; all where none is named"
    )


def network(args: argparse.Namespace) -> int:
    """Bind a group or an id to networks, or loose it; show who is bound to which."""
    if args.who is None:
        if args.remove is not None:
            raise FatalError("name the group, or the id, whose networks are to be taken away")
        now = rules_of(args)
        print("\n".join(network_lines(now.networks)) or "Everyone may come from anywhere.")
        return 0
    who = check_device_id(args.who)
    adding = list(map(parse_network, args.networks))
    if not adding and args.remove is None:
        return _show(rules_of(args), who)
    taking = list(map(parse_network, args.remove or ()))
    authority = authority_of(args)

    def edit(before: Rules) -> Rules:
        is_group = who in before.groups
        more = before.with_networks(Binding(who, is_group, one) for one in adding)
        if args.remove is None:
            return more
        gone = [
            one
            for one in before.networks
            if one.who == who and (not taking or one.network in taking)
        ]
        missing = [one for one in taking if one not in {had.network for had in gone}]
        if missing or not gone:
            has = f"has no network {listed(missing)}" if missing else "has no networks"
            raise FatalError(f"{who} {has}: securemqtt broker network shows who has which")
        return more.without_networks(gone)

    now = change_rules(args, authority, edit)
    _show(now, who)
    if adding and who not in now.groups:
        note_unknown(authority, now, who)
    hand_on(args)
    return 0


def bind(
    args: argparse.Namespace, authority: Authority, ids: Iterable[str], networks: Iterable[Network]
) -> None:
    """Bind ids to networks; the broker takes that up at its next reload. Raise FatalError."""
    wanted = list(networks)
    made = [Binding(who, False, one) for who in ids for one in wanted]
    change_rules(args, authority, lambda before: before.with_networks(made))


def _show(now: Rules, who: str) -> int:
    lines = network_lines(one for one in now.networks if one.who == who)
    if who not in now.groups and not lines and (by_group := now.networks_of(who)):
        lines = [f"{who} has to come from {listed(by_group)}, by its groups."]
    print("\n".join(lines) or f"{who} may come from anywhere.")
    return 0
