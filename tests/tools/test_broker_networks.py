"""The networks of the rules: what is one, who is bound by which, and their file."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securemqtt_tools.broker.hivemq.access import network_bits
from securemqtt_tools.broker.networks import (
    Binding,
    Network,
    is_within,
    parse_network,
    plain_address,
)
from securemqtt_tools.broker.rules import Rules
from securemqtt_tools.broker.rules_file import read_rules, reconcile, write_rules
from securemqtt_tools.cli import FatalError

HOME, FARM = parse_network("192.0.2.0/24"), parse_network("2001:db8::/32")
RULES = Rules(
    7,
    {"greenhouse": frozenset({"a", "b", "d"}), "hall": frozenset({"b"}), "free": frozenset("a")},
    (),
    (
        Binding("greenhouse", True, HOME),
        Binding("hall", True, FARM),
        Binding("c", False, FARM),
        Binding("d", False, parse_network("198.51.100.7")),
        Binding("empty", True, HOME),
    ),
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_what_is_a_network(text: str, meant: str) -> None:
    assert str(parse_network(text)) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("192.0.2.1/24", "write 192.0.2.0/24$"),
        ("fe80::1%eth0", "write fe80::1/128$"),
        ("fe80::%eth0/64", "write fe80::/64$"),
        ("0.0.0.0", r"nobody has this address\): write 0\.0\.0\.0/0, which is every address"),  # noqa: S104
        ("::", "write ::/0, which is every address of its kind$"),
        ("2001:db8::1/32", "write 2001:db8::/32$"),
        ("farm", "write 192.0.2.0/24, or 2001:db8::/32$"),
        ("192.0.2.0/33", "is no network"),
        ("fe80::%eth0/64", "a zone is this computer's own business"),
        ("", "is no network"),
        ("3", "is no network"),
    ],
)
def test_what_is_no_network(text: str, said: str) -> None:
    with pytest.raises(FatalError, match=said):
        parse_network(text)


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8::1", "2001:db8::1"),
        ("?", "?"),
    ],
)
def test_an_address_as_people_write_it(address: str, plain: str) -> None:
    assert plain_address(address) == plain


def test_what_is_within() -> None:
    for address in ("192.0.2.7", "::ffff:192.0.2.7"):
        assert is_within([FARM, HOME], address)
    assert is_within([parse_network("fe80::/10")], "fe80::1%eth0")
    for address in ("192.0.3.7", "::192.0.2.7", "2001:db9::1", "?", "", "192.0.2.7.example"):
        assert not is_within([FARM, HOME], address)
    assert not is_within([parse_network("::/0")], "192.0.2.7")
    assert not is_within([parse_network("0.0.0.0/0")], "2001:db8::1")


NETWORKS = st.one_of(
    st.builds(
        lambda bits, length: ipaddress.ip_network((bits, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda bits, length: ipaddress.ip_network((bits, length), strict=False),
        st.integers(2**32, 2**128 - 1),
        st.integers(0, 128),
    ),
)


@given(NETWORKS, st.ip_addresses(), st.integers(0, 2**128 - 1))
def test_java_reads_the_same(
    network: Network, address: ipaddress.IPv4Address | ipaddress.IPv6Address, within: int
) -> None:
    """It compares bits."""
    inside = network[within % network.num_addresses]
    for one in (address, inside):
        if getattr(one, "ipv4_mapped", None) is None:
            bits = f"{one.version}:{int(one):0{one.max_prefixlen}b}"
            assert bits.startswith(network_bits(network)) == is_within([network], str(one))


def test_who_has_to_come_from_where() -> None:
    """Its own count in place of its groups', of which any will do."""
    networks = {one: list(RULES.networks_of(one)) for one in "abcdz"}
    assert networks == {
        "a": [HOME],
        "b": [HOME, FARM],
        "c": [FARM],
        "d": [parse_network("198.51.100.7/32")],
        "z": [],
    }
    assert RULES.bound() == {"a", "b", "c", "d"}
    assert RULES.may_come_from("b", "2001:db8::7")
    assert not RULES.may_come_from("a", "2001:db8::7")
    assert not RULES.may_come_from("d", "192.0.2.7")
    assert RULES.may_come_from("z", "?")
    assert not RULES.may_come_from("a", "?")


def test_a_group_that_is_bound_outlives_its_last_member() -> None:
    """Else who joins it anew would come from anywhere."""
    rules = RULES.with_members("hall", (), ["b"])
    assert rules.with_members("hall", ["z"], ()).networks_of("z") == (FARM,)


def test_the_file_says_what_the_rules_say(tmp_path: Path) -> None:
    write_rules(tmp_path, RULES)
    assert read_rules(tmp_path) == RULES
    (tmp_path / "broker").mkdir()
    write_rules(tmp_path / "broker", Rules(6))
    assert reconcile(tmp_path, tmp_path / "broker") == read_rules(tmp_path / "broker") == RULES


def test_only_with_networks_it_is_for_versions_that_know_them(tmp_path: Path) -> None:
    """One that does not would let everybody in from anywhere."""
    path = tmp_path / "rules.json"
    write_rules(tmp_path, RULES)
    assert json.loads(path.read_text())["format"] == 2
    write_rules(tmp_path, RULES.without_networks(RULES.networks))
    values = json.loads(path.read_text())
    assert (values["format"], "networks" in values) == (1, False)


@pytest.mark.parametrize(
    "more",
    [
        {"format": 1, "networks": [{"id": "a", "network": "192.0.2.0/24"}]},
        {"format": 2},
        {"format": 3, "networks": []},
        {"format": 1, "groups": {"g": ["a"]}, "shared": {"g": ["a"]}},
        {"format": 3, "groups": {"g": ["a"]}, "shared": {"g": ["a", "b"]}},
        {"format": 3, "groups": {}, "shared": {"g": ["a"]}},
        {"format": 3, "groups": {"g": ["a"]}, "shared": ["a"]},
        {"format": 2, "networks": [{"id": "a"}]},
        {"format": 2, "networks": [{"id": "a/b", "network": "192.0.2.0/24"}]},
        {"format": 2, "networks": [{"id": "a", "network": "192.0.2.1/24"}]},
        {"format": 2, "networks": [{"id": "a", "network": 3}]},
        {"format": 2, "networks": ["a"]},
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, more: dict[str, object]) -> None:
    values = {"number": 1, "groups": {}, "rules": [], **more}
    (tmp_path / "rules.json").write_text(json.dumps(values))
    with pytest.raises(FatalError):
        read_rules(tmp_path)
