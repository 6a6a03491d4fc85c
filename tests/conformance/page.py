"""Run the conformance tests and write docs/conformance.md from what comes of them; nothing where
one fails that is not known to.

python tests/conformance/page.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from conformance.cases import DEVIATIONS, EMBEDDED, MOSQUITTO, Case, Deviation  # noqa: E402
from securemqtt_tools.broker.mosquitto.program import find_mosquitto  # noqa: E402

PAGE = TESTS.parent / "docs" / "conformance.md"
_NAMES = {MOSQUITTO: "Mosquitto", EMBEDDED: "Embedded"}
_PAGE = """# Conformance

What our brokers do on the wire, clause by clause of MQTT 3.1.1 (OASIS Standard, 29 October 2014):
one test per row, unchanged for both brokers, behind mutual TLS and our rules. The standard's own
words for a clause are in its appendix B; what is here says what the test looks for. A number is a
clause that does not hold, with its reason below; the test fails when it begins to.

Mosquitto {mosquitto} and the embedded broker over amqtt {amqtt}, {day}: of {count} cases {held}
hold with Mosquitto, and {embedded_held} with the embedded broker.

| clause | what is asked | Mosquitto | embedded |
|---|---|---|---|
{rows}
Known deviations, of other versions, too:

{deviations}
`make conformance` runs `tests/conformance/` and writes this page; `make test` runs the same tests.
"""


class Results:
    """What pytest says of each test, by its function and its broker."""

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}
        self.held: dict[tuple[str, str], bool] = {}
        self._ids: dict[str, tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        for item in items:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            if "case" in parameters:
                self.cases[item.originalname] = parameters["case"]
                self._ids[item.nodeid] = (item.originalname, parameters["door"])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.nodeid in self._ids:
            self.held[self._ids[report.nodeid]] = report.passed


def page(results: Results, mosquitto: str, amqtt: str, day: str) -> str:
    """Return the content of docs/conformance.md."""
    rows = ""
    for test, case in results.cases.items():
        rows += row_start(case)
        for broker in (MOSQUITTO, EMBEDDED):
            rows += f" {'yes' if results.held[test, broker] else _numbers(test, broker)} |"
        rows += "\n"
    held = [broker for (_, broker), one in results.held.items() if one]
    return _PAGE.format(
        mosquitto=mosquitto,
        amqtt=amqtt,
        day=day,
        rows=rows,
        count=len(results.cases),
        held=held.count(MOSQUITTO),
        embedded_held=held.count(EMBEDDED),
        deviations="".join(deviation_lines()) or "None.\n",
    )


def row_start(case: Case) -> str:
    """Return what the page's row of a case begins with."""
    return f"| {case.clause} | {case.what} |"


def deviation_lines() -> Iterator[str]:
    """Yield the page's line of each deviation."""
    for number, one in enumerate(DEVIATIONS, 1):
        yield f"{number}. {_NAMES[one.broker]}, `{one.test}`: {one.why}.\n"


def _numbers(test: str, broker: str) -> str:
    def is_it(one: Deviation) -> bool:
        return (one.test, one.broker) == (test, broker)

    return ", ".join(str(number) for number, one in enumerate(DEVIATIONS, 1) if is_it(one))


def main() -> int:
    results = Results()
    status = pytest.main(
        ["-q", "-p", "no:cacheprovider", "-k", "not test_page", str(TESTS / "conformance")],
        plugins=[results],
    )
    program = find_mosquitto()
    if status or program is None or len(results.held) != 2 * len(results.cases):
        print("not written: a test failed, or had nothing to run with", file=sys.stderr)
        return 1
    PAGE.write_text(page(results, program.version_text, version("amqtt"), date.today().isoformat()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
