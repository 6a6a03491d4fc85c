"""Rules that were changed on two sides, on each without the other, made one: nothing tells which
side was right, so what either has denied stays denied, and the rest is told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    if not older.number:
        return newer  # that side was never changed, so it has taken nothing from anybody
    denials = (one for one in older.lines if one.action == DENY)
    limited = replace(
        newer.with_lines(*denials), networks=_networks(newer, older), shared=_shared(newer, older)
    )
    giving = {one.who for one in limited.lines if one.is_group and one.action != DENY}
    # As if all members of the older side's groups were taken in: all that limits anybody.
    crowded = replace(limited, groups=_joined(limited, older))
    careful = replace(limited, groups=_joined(limited, older, but=giving))
    both = _bound(_denied(careful, crowded), crowded, (newer, older))
    return both if both == newer else replace(both, number=newer.number + 1)


def told(here: Rules, there: Rules, both: Rules) -> list[str]:
    """Say what only one side has, and what becomes of it; a line each. Where the rules of here are
    the newer ones, their own denials and networks need no word.
    """
    ours, theirs, after = map(_facts, (here, there, both))
    plain = {one for one, limits in ours.items() if limits and here.number >= there.number}
    alone = ours.keys() - theirs.keys()
    lines = {
        "Taken over, since it was not here": (after.keys() & theirs.keys()) - ours.keys(),
        "Taken over from groups, as rules of single ids": after.keys()
        - ours.keys()
        - theirs.keys(),
        "Taken away, since it was here, and is not there": ours.keys() - after.keys(),
        "Kept, though it is here, and not there": (alone & after.keys()) - plain,
        "Left, since it is there, and not here": theirs.keys() - ours.keys() - after.keys(),
    }
    return [f"{what}: {'; '.join(sorted(which))}." for what, which in lines.items() if which]


def _joined(rules: Rules, older: Rules, but: Collection[str] = ()) -> dict[str, frozenset[str]]:
    """Return the groups of rules, with the older side's members of those that these rules know or
    name, but for some.
    """
    known = rules.named_groups() & older.groups.keys() - set(but)
    joined = {one: rules.groups.get(one, frozenset()) | older.groups[one] for one in known}
    return {**rules.groups, **joined}


def _denied(careful: Rules, crowded: Rules) -> Rules:
    """Return rules that deny to those whom they leave out of groups what these deny."""
    left_out = {
        one
        for group, members in crowded.groups.items()
        for one in members - careful.groups.get(group, frozenset())
    }
    return careful.with_lines(
        *(
            Rule(identity, False, DENY, one)
            for identity in sorted(left_out)
            for one in crowded.access(identity).denied
            if not covered(careful.access(identity).denied, one)
        )
    )


def _bound(rules: Rules, crowded: Rules, sides: tuple[Rules, Rules]) -> Rules:
    """Return rules that let nobody come from more networks than the sides do, the newer one first;
    whom neither binds, from those of the groups that he was left out of.
    """
    bound = crowded.bound().union(*(side.bound() for side in sides))
    for identity in sorted(bound):
        newer, older = (side.networks_of(identity) for side in sides)
        wanted = _common(newer, older) or crowded.networks_of(identity)
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
