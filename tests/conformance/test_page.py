"""docs/conformance.md has the cases that there are, and what is known to be otherwise."""

from __future__ import annotations

from types import ModuleType

from conformance import test_connecting, test_delivering, test_subscribing
from conformance.cases import DEVIATIONS, Case
from conformance.page import PAGE, deviation_lines, row_start

AGAIN = "run: make conformance"


def cases_of(module: ModuleType) -> dict[str, Case]:
    return {
        name: test.pytestmark[0].args[1][0]
        for name, test in vars(module).items()
        if name.startswith("test_")
    }


CASES = {
    name: one
    for module in (test_connecting, test_delivering, test_subscribing)
    for name, one in cases_of(module).items()
}


def test_the_page_is_up_to_date() -> None:
    lines = PAGE.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| MQTT-")]
    assert len(rows) == len(CASES) == 31
    for row, case in zip(rows, CASES.values(), strict=True):
        assert row.startswith(row_start(case)), AGAIN
    for line in deviation_lines():
        assert line.rstrip() in lines, AGAIN


def test_each_deviation_is_of_a_case() -> None:
    assert {one.test for one in DEVIATIONS} <= set(CASES)
