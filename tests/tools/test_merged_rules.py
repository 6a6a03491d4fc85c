"""Rules that were changed on two sides, made one: nobody has more by it than each side lets him."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securemqtt_tools.broker.merged import merged, told
from securemqtt_tools.broker.networks import Binding, parse_network
from securemqtt_tools.broker.rules import ACTIONS, DENY, READ, WRITE, Rule, Rules, covered

_IDS = ("pump", "valve")
_GROUPS = ("crew", "guests")
_FILTERS = ("a", "a/#", "b")
_NETWORKS = ("192.0.2.0/24", "192.0.2.0/28", "198.51.100.0/24")
_ADDRESSES = ("192.0.2.1", "192.0.2.200", "198.51.100.1", "203.0.113.1")


def _bound(*networks: str, who: str = "pump") -> tuple[Binding, ...]:
    return tuple(Binding(who, False, parse_network(one)) for one in networks)


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        ((), ("192.0.2.0/24",), ("192.0.2.0/24",)),
        (("192.0.2.0/24",), (), ("192.0.2.0/24",)),
        (("192.0.2.0/24",), ("192.0.2.1",), ("192.0.2.1",)),
        (("192.0.2.1",), ("192.0.2.0/24",), ("192.0.2.1",)),
        (("192.0.2.0/24", "2001:db8::/32"), ("2001:db8::/48",), ("2001:db8::/48",)),
        (("192.0.2.0/24",), ("198.51.100.0/24",), ("192.0.2.0/24",)),
    ],
)
def test_one_whom_both_bind_comes_from_where_both_allow(
    newer: tuple[str, ...], older: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    both = merged(Rules(2, networks=_bound(*newer)), Rules(1, networks=_bound(*older)))
    assert both.networks == _bound(*expected)


def _in_group(group: str, *networks: str) -> Rules:
    """Return rules in which a pump is in a group that gives something, and may come from these."""
    bound = tuple(Binding(group, True, parse_network(one)) for one in networks)
    return Rules(1, {group: frozenset({"pump"})}, (Rule(group, True, READ, "a"),), bound)


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        (_in_group("crew", "192.0.2.0/24"), _in_group("guests", "192.0.2.1"), "192.0.2.1"),
        (_in_group("crew", "192.0.2.1"), _in_group("guests", "192.0.2.0/24"), "192.0.2.1"),
        (_in_group("crew", "192.0.2.0/24"), _in_group("guests", "198.51.100.1"), "192.0.2.0/24"),
        (_in_group("crew"), _in_group("guests", "198.51.100.1"), "198.51.100.1"),
        (_in_group("crew", "192.0.2.0/24"), _in_group("guests"), "192.0.2.0/24"),
        (Rules(1, networks=_bound("192.0.2.0/24")), _in_group("guests", "192.0.2.1"), "192.0.2.1"),
        (_in_group("crew", "192.0.2.1"), Rules(1, networks=_bound("192.0.2.0/24")), "192.0.2.1"),
    ],
)
def test_networks_of_groups_give_nobody_more_than_each_side(
    newer: Rules, older: Rules, expected: str
) -> None:
    both = merged(newer, older)
    assert both.networks_of("pump") == (parse_network(expected),)
    assert merged(both, older) == both == merged(both, newer)


def test_one_joins_a_second_group_without_its_networks() -> None:
    """Several groups are alternatives: of one that gives nothing he becomes a member."""
    newer, older = _in_group("crew", "192.0.2.0/24"), _in_group("guests", "198.51.100.0/24")
    both = merged(newer, older)
    assert both.groups_of("pump") == ["crew", "guests"]
    assert both.networks_of("pump") == (parse_network("192.0.2.0/24"),)
    said = "Taken over from groups, as rules of single ids: pump has to come from 192.0.2.0/24."
    assert said in told(newer, older, both)


def _sharing(*sharing: str, members: tuple[str, ...] = _IDS) -> Rules:
    shared = {"crew": frozenset(sharing)} if sharing else {}
    return Rules(1, {"crew": frozenset(members)}, shared=shared)


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        (_sharing("pump", "valve"), _sharing("pump"), {"pump"}),
        (_sharing("pump"), _sharing("pump", "valve"), {"pump"}),
        (_sharing("pump"), _sharing("valve"), set()),
        (_sharing("pump", "valve"), _sharing(), set()),  # the last one was taken away there
        (_sharing("pump", "valve"), _sharing(members=("valve",)), set()),
        (_sharing("pump", "valve"), Rules(1, {"crew": frozenset()}), set()),  # and all members
        (_sharing("pump"), Rules(1), set()),
        (_sharing("pump"), Rules(), {"pump"}),  # that side was never changed
        (_sharing(), _sharing("pump"), set()),
    ],
)
def test_one_who_shares_a_certificate_on_one_side_alone_does_not(
    newer: Rules, older: Rules, expected: set[str]
) -> None:
    both = merged(newer, older)
    both.check()
    assert {one for one in _IDS if both.shares(one, "crew")} == expected
    assert merged(both, older) == both == merged(both, newer)
    taken = "Taken away, since it was here, and is not there: "
    lost = "; ".join(
        f"{one} shares the certificate of crew"
        for one in _IDS
        if newer.shares(one, "crew") and one not in expected
    )
    assert [line for line in told(newer, older, both) if line.startswith(taken)] == (
        [f"{taken}{lost}."] if lost else []
    )


def _subsets(of: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(of))


_whom = st.sampled_from([*((one, False) for one in _IDS), *((one, True) for one in _GROUPS)])


def _of(
    groups: dict[str, frozenset[str]],
    shared: dict[str, frozenset[str]],
    lines: Iterable[tuple[tuple[str, bool], str, str]],
    networks: Iterable[tuple[tuple[str, bool], str]],
) -> Rules:
    """Make rules of what was drawn: a group is one only where this side knows it, and whoever
    shares its certificate is a member.
    """
    known = groups.keys()
    return Rules(
        1,
        groups,
        tuple(
            Rule(who, is_group, action, one)
            for (who, is_group), action, one in lines
            if who in known or not is_group
        ),
        tuple(
            Binding(who, is_group, parse_network(one))
            for (who, is_group), one in networks
            if who in known or not is_group
        ),
        {
            one: sharing & groups[one]
            for one, sharing in shared.items()
            if sharing & groups.get(one, frozenset())
        },
    )


_members = {one: _subsets(_IDS) for one in _GROUPS}
_rules = st.builds(
    _of,
    st.fixed_dictionaries({}, optional=_members),
    st.fixed_dictionaries({}, optional=_members),
    st.frozensets(
        st.tuples(_whom, st.sampled_from(ACTIONS), st.sampled_from(_FILTERS)), max_size=4
    ),
    st.frozensets(st.tuples(_whom, st.sampled_from(_NETWORKS)), max_size=4),
)


@given(_rules, _rules)
def test_whatever_the_sides_are_nobody_has_more_than_each_lets_him(
    newer: Rules, older: Rules
) -> None:
    both = merged(newer, older)
    both.check()
    assert merged(both, older) == both == merged(both, newer)
    for identity in _IDS:
        sides = (newer, older)
        for topic in _FILTERS:
            denied = any(covered(one.access(identity).denied, topic) for one in sides)
            assert covered(both.access(identity).denied, topic) or not denied
            for action in (READ, WRITE):
                allowed = both.access(identity).allows(action, topic)
                assert newer.access(identity).allows(action, topic) or not allowed
        for group in _GROUPS:
            assert both.shares(identity, group) <= all(
                side.shares(identity, group) for side in sides
            )
        lets = [{one for one in _ADDRESSES if side.may_come_from(identity, one)} for side in sides]
        after = {one for one in _ADDRESSES if both.may_come_from(identity, one)}
        assert after <= (lets[0] & lets[1] or lets[0])


def test_rules_to_which_the_older_ones_add_nothing_stay_as_they_are() -> None:
    denied = Rule("pump", False, DENY, "a")
    interleaved = (*_bound("192.0.2.1"), *_bound("192.0.2.2", who="valve"), *_bound("192.0.2.3"))
    newer = Rules(7, {"crew": frozenset({"pump"})}, (denied,), interleaved)
    assert merged(newer, newer) == newer
    assert merged(newer, Rules()) == newer


def test_members_of_a_group_that_only_takes_away_are_those_of_both() -> None:
    """To be in one that gives something, too, may be more or less: the newer side counts."""
    lines = (
        Rule("banned", True, DENY, "a"),
        Rule("crew", True, READ, "b"),
        Rule("mixed", True, DENY, "c"),
        Rule("mixed", True, WRITE, "d"),
    )
    names = ("banned", "crew", "mixed")
    newer = Rules(2, {one: frozenset({"pump"}) for one in names}, lines)
    older = Rules(1, {one: frozenset({"valve"}) for one in names}, lines)
    both = merged(newer, older)
    assert both.number == 3
    assert {**newer.groups, "banned": frozenset({"pump", "valve"})} == both.groups
    alone = merged(Rules(2), Rules(1, {"mixed": frozenset({"valve"})}, lines[2:3]))
    assert alone.groups == {"mixed": frozenset({"valve"})}
