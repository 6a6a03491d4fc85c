"""The rules, as the embedded broker applies them and as Mosquitto reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from securemqtt_tools.broker.rules import READ, WRITE, allows, mosquitto_acl, permitted

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
    assert allows([rule], topic) == topic_matches_sub(rule, topic)


@given(filters(), filters(), TOPICS)
def test_an_allowed_filter_matches_nothing_that_is_not_allowed(
    rule: str, asked: str, topic: str
) -> None:
    if allows([rule], asked) and topic_matches_sub(asked, topic):
        assert topic_matches_sub(rule, topic)


@given(filters())
def test_each_filter_covers_itself(rule: str) -> None:
    assert allows([rule], rule)


def test_a_device_has_its_own_prefix_only() -> None:
    assert permitted("a", {}, READ) == permitted("a", {}, WRITE) == ["devices/a/#"]


def test_an_operator_reads_all_and_commands() -> None:
    roles = {"boss": "operator"}
    assert allows(permitted("boss", roles, READ), "devices/#")
    assert allows(permitted("boss", roles, WRITE), "devices/x/command/led/on")
    assert not allows(permitted("boss", roles, WRITE), "devices/x/temperature")
    assert permitted("other", roles, READ) == ["devices/other/#"]


@pytest.mark.parametrize(
    "asked", ["#", "+/#", "+/a/#", "devices/+/#", "devices/#", "devices/ab/#", "$SYS/#", "devices"]
)
def test_what_a_device_may_not_subscribe_to(asked: str) -> None:
    assert not allows(permitted("a", {}, READ), asked)


def test_mosquitto_acl() -> None:
    text = mosquitto_acl({"boss": "operator"})
    assert text.splitlines()[1:] == [
        "pattern readwrite devices/%u/#",
        "",
        "# operator: reads every device and sends it commands",
        "user boss",
        "topic read devices/#",
        "topic write devices/+/command/#",
    ]
