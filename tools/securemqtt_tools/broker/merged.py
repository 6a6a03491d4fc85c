"""Rules that were changed on two sides, on each without the other, made one: nothing tells which
side was right, so what either has denied stays denied, and the rest is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from securemqtt_tools.broker.networks import Binding, Network
from securemqtt_tools.broker.rules import DENY, Rule, Rules, covered


def merged(newer: Rules, older: Rules) -> Rules:
    """Return the rules of the side with more changes, with the denials and networks of both sides.

    Members of the older side's are taken into groups to which nothing is given. The others get what
    these groups deny, and the networks, as rules of their own; and so is bound who may come from
    more networks, by the groups of both sides, than each side lets him. Who shares a certificate on
    one side alone does not share it.
    """
    both = newer.with_lines(*(one for one in older.lines if one.action == DENY))
    both = replace(both, networks=_networks(newer, older), shared=_shared(newer, older))
    known = both.named_groups() & older.groups.keys()
    before = {one: newer.groups.get(one, frozenset()) for one in known}
    joined = {one: members | older.groups[one] for one, members in before.items()}
    giving = {one.who for one in both.lines if one.is_group and one.action != DENY}
    left_out = {one for group in known & giving for one in joined[group] - before[group]}
    with_all = replace(both, groups={**newer.groups, **joined})
    some = {one: before[one] if one in giving else joined[one] for one in known}
    both = replace(both, groups={**newer.groups, **some})
    both = _bound(_denied(both, with_all, left_out), with_all, (newer, older))
    return both if both == newer else replace(both, number=newer.number + 1)


def told(here: Rules, there: Rules, both: Rules) -> list[str]:
    """Say what only one side has, and what becomes of it; a line each. Where the rules of here are
    the newer ones, their own denials and networks need no word.
    """
    ours, theirs, after = map(_facts, (here, there, both))
    plain = {one for one, limits in ours.items() if limits and here.number >= there.number}
    alone = ours.keys() - theirs.keys()
    lines = {
        "Taken over: rules that were not here": (after.keys() & theirs.keys()) - ours.keys(),
        "Taken over from groups, as rules of single ids": after.keys()
        - ours.keys()
        - theirs.keys(),
        "Taken away: rules that were here, and are not there": ours.keys() - after.keys(),
        "Kept: rules that are here, and not there": (alone & after.keys()) - plain,
        "Left: rules that are there, and not here": theirs.keys() - ours.keys() - after.keys(),
    }
    return [f"{what}: {'; '.join(sorted(which))}." for what, which in lines.items() if which]


def _denied(rules: Rules, with_all: Rules, left_out: set[str]) -> Rules:
    """Return rules that deny to those who were left out of groups what these deny."""
    return rules.with_lines(
        *(
            Rule(identity, False, DENY, one)
            for identity in sorted(left_out)
            for one in with_all.access(identity).denied
            if not covered(rules.access(identity).denied, one)
        )
    )


def _bound(rules: Rules, with_all: Rules, sides: tuple[Rules, Rules]) -> Rules:
    """Return rules that let nobody come from more networks than the sides do, the newer one first;
    whom neither binds, from those of the groups that he was left out of.
    """
    bound = with_all.bound().union(*(side.bound() for side in sides))
    for identity in sorted(bound):
        newer, older = (side.networks_of(identity) for side in sides)
        wanted = _common(newer, older) or with_all.networks_of(identity)
        now = rules.networks_of(identity)
        if not now or not all(_is_within(one, wanted) for one in now):
            own = [one for one in rules.networks if not one.is_group and one.who == identity]
            less = rules.without_networks(own)
            rules = less.with_networks(Binding(identity, False, one) for one in wanted)
    return rules


def _networks(newer: Rules, older: Rules) -> tuple[Binding, ...]:
    """Return the networks of those whom one side alone binds, and of the others what both sides
    allow; each group and id by itself.
    """
    everything = tuple(dict.fromkeys((*newer.networks, *older.networks)))
    kept = {
        (whom, network)
        for whom in {one.whom for one in everything}
        for network in _common(
            *([one.network for one in side.networks if one.whom == whom] for side in (newer, older))
        )
    }
    return tuple(one for one in everything if (one.whom, one.network) in kept)


def _shared(newer: Rules, older: Rules) -> dict[str, frozenset[str]]:
    kept = {
        group: sharing & older.shared.get(group, frozenset())
        for group, sharing in newer.shared.items()
    }
    return {group: sharing for group, sharing in kept.items() if sharing}


def _common(newer: Sequence[Network], older: Sequence[Network]) -> tuple[Network, ...]:
    """Return the networks that both sides allow; what the newer one does where that is nothing, and
    what the other does where one side binds nobody.
    """
    common = [one for one in newer if _is_within(one, older)]
    common += [one for one in older if _is_within(one, newer)]
    return tuple(dict.fromkeys(common or newer or older))


def _is_within(network: Network, others: Sequence[Network]) -> bool:
    return any(_is_part(network, one) for one in others)


def _is_part(network: Network, whole: Network) -> bool:
    return (
        network.version == whole.version
        and network.network_address in whole
        and network.prefixlen >= whole.prefixlen
    )


def _facts(rules: Rules) -> dict[str, bool]:
    """Return in words all that the rules say, each with whether it can only take away."""
    return {
        **{str(one): one.action == DENY for one in rules.lines},
        **{f"{one.whom} has to come from {one.network}": True for one in rules.networks},
        **{
            f"{one} is in group {group}": False
            for group, members in rules.groups.items()
            for one in members
        },
        **{
            f"{one} shares the certificate of {group}": False
            for group, sharing in rules.shared.items()
            for one in sharing
        },
    }
