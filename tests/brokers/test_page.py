"""docs/brokers.md has the rows that there are, and the reasons."""

from __future__ import annotations

from brokers import test_capabilities
from brokers.capabilities import BROKERS, INTERPRETERS, LACKS
from brokers.page import AGAIN, PAGE, reason_lines

TITLES = [
    mark.args[0]
    for name, test in vars(test_capabilities).items()
    if name.startswith("test_")
    for mark in test.pytestmark
    if mark.name == "capability"
]


def test_the_page_is_up_to_date() -> None:
    lines = PAGE.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert [line.split(" | ")[0] for line in rows] == [f"| {one}" for one in TITLES], AGAIN
    for line in rows:
        assert line.count(" | ") == len(BROKERS) * len(INTERPRETERS), AGAIN
    for line in reason_lines():
        assert line in lines, AGAIN


def test_each_lack_is_of_a_row() -> None:
    assert {one.test for one in LACKS} <= set(vars(test_capabilities))
