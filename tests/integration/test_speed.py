"""The machine's speed is no test's business: every deadline of a test's own goes by
support/speed.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from faults.rig import Tally
from faults.trial import Result
from support.speed import HEADROOM, VARIABLE, seconds, slowness

TESTS = Path(__file__).resolve().parents[1]
# What is shorter is no deadline: a pause, or a wait for what must not come.
_SHORT_S = 5
_WAITS = {"communicate", "flush", "join", "result", "settimeout", "wait"}
_FUNCTIONS = {"pytest.mark.timeout", "wait_until"}
_WORDS = {"timeout", "timeout_s"}
# Benchmarks measure a machine, matrix and release are no tests; the rest is told by who starts it,
# or lives in simulated time.
_APART = (
    "bench/",
    "contract/scenarios/",
    "integration/programs/",
    "matrix/",
    "support/release/",
    "unit/",
)


def _bare_deadlines(path: Path) -> Iterator[str]:
    """Return the lines of a file in which a deadline is a number."""
    for node in ast.walk(ast.parse(path.read_text())):
        numbers: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            numbers += [word.value for word in node.keywords if word.arg in _WORDS]
            if name.rpartition(".")[2] in _WAITS or name in _FUNCTIONS:
                numbers += node.args
        for number in numbers:
            if (
                isinstance(number, ast.Constant)
                and isinstance(number.value, int | float)
                and number.value >= _SHORT_S
            ):
                yield f"{path.relative_to(TESTS)}:{number.lineno}: {ast.unparse(node)}"


def test_no_deadline_is_a_number() -> None:
    files = [
        path
        for path in TESTS.rglob("*.py")
        if not path.relative_to(TESTS).as_posix().startswith(_APART)
    ]
    assert len(files) > 100
    assert [line for path in files for line in _bare_deadlines(path)] == []


def test_a_bare_deadline_is_found(tmp_path: Path) -> None:
    sample = TESTS / "integration" / "no such file.py"
    text = "delivery.wait(20)\nrun(command, timeout=30)\ntime.sleep(0.1)\nwait(seconds(20))\n"
    path = tmp_path / sample.name
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.TESTS", tmp_path)
        found = list(_bare_deadlines(path))
    assert [line.partition(": ")[2] for line in found] == [
        "delivery.wait(20)",
        "run(command, timeout=30)",
    ]


def test_a_deadline_grows_as_the_machine_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    assert seconds(2) == 2 * HEADROOM
    monkeypatch.setenv(VARIABLE, "10")
    assert seconds(2) == 20 * HEADROOM


@pytest.mark.parametrize("given", ["0", "0.5", "-1", "nan", "inf", "1e9", "", "fast"])
def test_what_is_no_slowness(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(ValueError, match=VARIABLE):
        slowness()


def test_it_is_measured_once_and_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    measured = slowness()
    assert measured >= 1
    monkeypatch.setattr("support.speed.measured_s", None)
    assert slowness() == measured


@pytest.mark.parametrize(("now", "complaints"), [(1, 1), (4, 0)])
def test_what_was_late_is_judged_by_the_speed_of_now(
    monkeypatch: pytest.MonkeyPatch, now: int, complaints: int
) -> None:
    monkeypatch.setattr("faults.trial.slowness_now", lambda: now)
    tally = Tally(sent=2, delivered=2, duplicates=0, in_order=True)
    late = Result(31.7, 18.3, None, 1, tally, slowness=1).judged()
    assert len(late.complaints(noticed=False)) == complaints
    lost = Result(31.7, 18.3, None, 1, replace(tally, sent=3), slowness=1).judged()
    assert any("1 lost" in complaint for complaint in lost.complaints(noticed=False))


def test_the_limit_of_a_test_grows_with_it(request: pytest.FixtureRequest) -> None:
    assert request.config.option.timeout >= 120 * HEADROOM
