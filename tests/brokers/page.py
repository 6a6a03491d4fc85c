"""Ask the same of each broker from each interpreter, and write docs/brokers.md from what comes of
it; nothing where a test fails that is not known to, or has nothing to run with.

python tests/brokers/page.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from brokers.capabilities import BROKERS, INTERPRETERS, LACKS  # noqa: E402
from securemqtt_tools.broker.config import BrokerConfig  # noqa: E402
from securemqtt_tools.broker.process import engine_of  # noqa: E402
from support.brokers.hivemq import hivemq_installed  # noqa: E402
from support.requirements import describe_program  # noqa: E402

PAGE = TESTS.parent / "docs" / "brokers.md"
AGAIN = "make brokers"
_PAGE = """# What works with which broker

The library as it is, under CPython and under MicroPython (as provisioning puts it onto a board),
with each broker as `securemqtt broker` sets it up: one test per row and column, the same for all of
them, judged by what is delivered and never by what a broker says it has granted. A number is a
reason below; its test fails when that begins to work.

{day}, on one machine: {titles}; CPython {cpython}; MicroPython {micropython}.

| | {columns} |
|---|{rules}|
{rows}

{reasons}
`{again}` runs `tests/brokers/` and writes this page; `make test` and `make test-brokers` run the
same tests. [conformance.md](conformance.md) has MQTT itself, clause by clause, for the first two;
[works-or-not-shown.md](works-or-not-shown.md) what no test here can show, boards above all. Pages
of their own: [HiveMQ](hivemq.md), [RabbitMQ](rabbitmq.md), [several hosts](cluster.md).
"""


class Results:
    """What pytest says of each test, by its row, its broker and its interpreter."""

    def __init__(self) -> None:
        self.titles: dict[str, str] = {}
        self.worked: dict[tuple[str, str, str], bool] = {}
        self._ids: dict[str, tuple[str, str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        for item in items:
            mark = item.get_closest_marker("capability")
            if mark is not None:
                values = item.callspec.params
                self.titles[item.originalname] = mark.args[0]
                found = (item.originalname, values["engine"], values["interpreter"])
                self._ids[item.nodeid] = found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.nodeid in self._ids:
            self.worked[self._ids[report.nodeid]] = report.passed

    @property
    def is_whole(self) -> bool:
        """Whether each test has run."""
        return bool(self._ids) and self.worked.keys() == {*self._ids.values()}


def reason_lines() -> Iterator[str]:
    """Yield the page's line of each reason."""
    for number, why in enumerate(_reasons(), 1):
        yield f"{number}. {why[0].upper()}{why[1:]}."


def row(test: str, title: str, results: Results) -> str:
    """Return the page's row of a test."""
    cells = []
    for broker in BROKERS:
        for interpreter in INTERPRETERS:
            worked = results.worked[test, broker, interpreter]
            cells.append("yes" if worked else _number(test, broker, interpreter))
    return f"| {title} | {' | '.join(cells)} |"


def _reasons() -> list[str]:
    return list(dict.fromkeys(one.why for one in LACKS))


def _number(test: str, broker: str, interpreter: str) -> str:
    (why,) = (
        one.why
        for one in LACKS
        if one.test == test
        and one.broker in (None, broker)
        and one.interpreter in (None, interpreter)
    )
    return f"no ({_reasons().index(why) + 1})"


def page(results: Results, titles: str, micropython: str) -> str:
    """Return the content of docs/brokers.md."""
    columns = [f"{broker}, {one}" for broker in BROKERS.values() for one in INTERPRETERS.values()]
    return _PAGE.format(
        day=date.today().isoformat(),
        titles=titles,
        cpython=".".join(map(str, sys.version_info[:3])),
        micropython=micropython,
        columns=" | ".join(columns),
        rules="|".join("---" for _ in columns),
        rows="\n".join(row(test, title, results) for test, title in results.titles.items()),
        reasons="\n".join(reason_lines()) + "\n",
        again=AGAIN,
    )


def _titles() -> str:
    settings = BrokerConfig(Path(), ("localhost",), 0)
    with hivemq_installed():
        titles = [engine_of(settings, name).title for name in BROKERS]
    return ", ".join(one.replace("The ", "the ") for one in titles)


def main() -> int:
    results = Results()
    tests = str(TESTS / "brokers")
    status = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not page", tests], [results])
    if status or not results.is_whole:
        print("not written: a test failed, or had nothing to run with", file=sys.stderr)
        return 1
    said = describe_program(
        "micropython", "-c", "import sys; print(*sys.implementation.version[:3], sep='.')"
    )
    PAGE.write_text(page(results, _titles(), said.partition(" (")[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
