"""The rules, as the embedded broker applies them and as Mosquitto reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from securemqtt_tools.broker.mosquitto.acl import acl_text
from securemqtt_tools.broker.rules import DENY, READ, WRITE, Rule, Rules, check_filter, covered
from securemqtt_tools.broker.rules_file import read_rules, reconcile, write_rules
from securemqtt_tools.cli import FatalError

LEVELS = st.sampled_from(["a", "b", "devices", "", "$SYS"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(LEVELS, st.just("+")), min_size=1, max_size=4))
    if draw(st.booleans()):
        levels[-1] = "#"
    return "/".join(levels) or "+"


@given(filters(), TOPICS)
def test_a_topic_is_allowed_exactly_where_the_filter_matches(rule: str, topic: str) -> None:
    assert covered([rule], topic) == topic_matches_sub(rule, topic)


@given(filters(), filters(), TOPICS)
def test_an_allowed_filter_matches_nothing_that_is_not_allowed(
    rule: str, asked: str, topic: str
) -> None:
    if covered([rule], asked) and topic_matches_sub(asked, topic):
        assert topic_matches_sub(rule, topic)


@given(filters())
def test_each_filter_covers_itself(rule: str) -> None:
    assert covered([rule], rule)


def test_a_device_has_its_own_prefix_only() -> None:
    access = Rules().access("a")
    assert access.read == access.write == ("devices/a/#",)


def test_an_operator_reads_all_and_commands() -> None:
    boss = Rules().access("boss", "operator")
    assert boss.allows(READ, "devices/#")
    assert boss.allows(WRITE, "devices/x/command/led/on")
    assert not boss.allows(WRITE, "devices/x/temperature")


@pytest.mark.parametrize(
    "asked", ["#", "+/#", "+/a/#", "devices/+/#", "devices/#", "devices/ab/#", "$SYS/#", "devices"]
)
def test_what_a_device_may_not_subscribe_to(asked: str) -> None:
    assert not Rules().access("a").allows(READ, asked)


RULES = Rules(
    7,
    {"greenhouse": frozenset({"a", "b"}), "hall": frozenset({"b"})},
    (
        Rule("greenhouse", True, READ, "weather/#"),
        Rule("greenhouse", True, DENY, "weather/secret/+"),
        Rule("hall", True, WRITE, "lamp"),
        Rule("c", False, WRITE, "alarm"),
        Rule("empty", True, READ, "nothing"),
    ),
)


def test_a_member_has_what_its_groups_have() -> None:
    a, b, c = (RULES.access(one) for one in "abc")
    assert a.allows(READ, "weather/now")
    assert a.allows(READ, "weather/#")  # what is denied of it does not come
    assert not a.allows(READ, "weather/secret/key")
    assert not a.allows(READ, "weather/secret/+")
    assert not a.allows(WRITE, "weather/now")
    assert not a.allows(WRITE, "lamp")
    assert b.allows(WRITE, "lamp")
    assert b.allows(READ, "weather/now")
    assert c.allows(WRITE, "alarm")
    assert not c.allows(READ, "weather/now")
    assert RULES.identities() == {"a", "b", "c"}


def test_what_is_denied_is_denied_to_an_operator_too() -> None:
    rules = Rules(0, {}, (Rule("boss", False, DENY, "devices/vault/#"),))
    boss = rules.access("boss", "operator")
    assert boss.allows(READ, "devices/x/t")
    assert not boss.allows(READ, "devices/vault/t")
    assert not boss.allows(WRITE, "devices/vault/command/open")


def test_a_group_is_gone_with_its_last_member_unless_a_rule_has_its_name() -> None:
    assert "hall" in RULES.with_members("hall", (), ["b"]).groups
    without = RULES.without_lines([Rule("hall", True, WRITE, "lamp")])
    assert "hall" not in without.with_members("hall", (), ["b"]).groups
    assert RULES.with_members("hall", ["z"], ()).groups_of("z") == ["hall"]


@pytest.mark.parametrize(
    "topic_filter",
    ["", "a/#/b", "a\nuser boss", " a", "a ", "~/t", "$share/g/t", "a\u2028b", "\ud800"],
)
def test_what_is_no_topic_for_a_rule(topic_filter: str) -> None:
    with pytest.raises(FatalError, match="is no topic for a rule"):
        check_filter(topic_filter)


def test_the_file_says_what_the_rules_say(tmp_path: Path) -> None:
    assert read_rules(tmp_path) == Rules()
    write_rules(tmp_path, RULES)
    assert read_rules(tmp_path) == RULES


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "{}",
        '{"format": 1, "number": 1, "groups": {"a b": []}, "rules": []}',
        '{"format": 1, "number": 1, "groups": {"g": ["a/b"]}, "rules": []}',
        '{"format": 1, "number": 1, "groups": {}, "rules": [{"id": "a", "may": "t"}]}',
        '{"format": 1, "number": 1, "groups": {}, "rules": [{"id": "a", "read": "t\\nuser b"}]}',
        '{"format": 1, "number": 1, "groups": {}, "rules": [{"id": "a", "read": 3}]}',
        '{"format": 2, "number": 1, "groups": {}, "rules": []}',
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.json").write_text(text)
    with pytest.raises(FatalError):
        read_rules(tmp_path)


def test_the_rules_that_were_changed_more_often_count(tmp_path: Path) -> None:
    """An authority that comes from a backup does not give back what was denied since."""
    authority, broker = tmp_path / "ca", tmp_path / "broker"
    older, newer = Rules(1), RULES
    write_rules(authority, older)
    write_rules(broker, newer)
    assert reconcile(authority, broker) == newer
    assert read_rules(authority) == newer
    changed = Rules(8)
    write_rules(authority, changed)
    assert reconcile(authority, broker) == read_rules(broker) == changed


def test_mosquittos_file() -> None:
    text = acl_text({"boss": "operator", "b": "monitor"}, RULES)
    assert text.splitlines()[1:] == [
        "pattern readwrite devices/%u/#",
        "",
        "# in greenhouse",
        "user a",
        "topic deny weather/secret/+",
        "topic read weather/#",
        "",
        "# monitor: reads every device and the broker's own figures",
        "# in greenhouse, hall",
        "user b",
        "topic deny weather/secret/+",
        "topic read devices/#",
        "topic read $SYS/#",
        "topic read weather/#",
        "topic write lamp",
        "",
        "# operator: reads every device and sends it commands",
        "user boss",
        "topic read devices/#",
        "topic write devices/+/command/#",
        "",
        "user c",
        "topic write alarm",
    ]
