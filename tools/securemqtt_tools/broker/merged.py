"""Rules that were changed on two sides, on each without the other, made one: nothing tells which
side was right, so what either has denied stays denied, and the rest is told.
"""

from __future__ import annotations

from dataclasses import replace

from securemqtt_tools.broker.networks import Binding, Network
from securemqtt_tools.broker.rules import DENY, Rules


def merged(newer: Rules, older: Rules) -> Rules:
    """Return the rules of the side with more changes, with the denials of both sides, their
    networks, and their members of groups to which nothing is given: they can only lose by it.
    """
    both = newer.with_lines(*(one for one in older.lines if one.action == DENY))
    both = replace(both, networks=_networks(newer, older))
    giving = {one.who for one in both.lines if one.is_group and one.action != DENY}
    groups = dict(newer.groups)
    for group in both.named_groups() & older.groups.keys():
        members = frozenset() if group in giving else older.groups[group]
        groups[group] = groups.get(group, frozenset()) | members
    both = replace(both, groups=groups)
    return both if both == newer else replace(both, number=newer.number + 1)


def told(here: Rules, there: Rules, both: Rules) -> list[str]:
    """Say what only one side has, and what becomes of it; a line each. Where the rules of here are
    the newer ones, their own denials and networks need no word.
    """
    ours, theirs, after = map(_facts, (here, there, both))
    plain = {one for one, limits in ours.items() if limits and here.number >= there.number}
    alone = ours.keys() - theirs.keys()
    lines = {
        "Taken over: rules that were not here": after.keys() - ours.keys(),
        "Taken away: rules that were here, and are not there": ours.keys() - after.keys(),
        "Kept: rules that are here, and not there": (alone & after.keys()) - plain,
        "Left: rules that are there, and not here": theirs.keys() - ours.keys() - after.keys(),
    }
    return [f"{what}: {'; '.join(sorted(which))}." for what, which in lines.items() if which]


def _networks(newer: Rules, older: Rules) -> tuple[Binding, ...]:
    """Return the networks of those whom one side alone binds; of the others what both sides allow,
    and where that is nothing what the newer one does.
    """
    everything = tuple(dict.fromkeys((*newer.networks, *older.networks)))
    kept: set[Binding] = set()
    for whom in {one.whom for one in everything}:
        ours, theirs = (
            [one for one in side.networks if one.whom == whom] for side in (newer, older)
        )
        common = [one for one in ours if _is_within(one, theirs)]
        common += [one for one in theirs if _is_within(one, ours)]
        kept.update(common or ours or theirs)
    return tuple(one for one in everything if one in kept)


def _is_within(binding: Binding, others: list[Binding]) -> bool:
    return any(_is_part(binding.network, one.network) for one in others)


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
