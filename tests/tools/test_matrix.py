"""`make test-matrix`: what its cells cover, what it keeps of a report, and the table of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from matrix import results
from matrix.cells import Cell, all_cells
from matrix.results import Result, load, write_table
from support.requirements import require_program
from support.speed import seconds

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<testcase classname="tests.unit.test_a" name="test_good" time="0.1" />
<testcase classname="tests.unit.test_a" name="test_bad"><failure message="no">…</failure></testcase>
<testcase classname="tests.unit.test_b" name="test_broken"><error message="no">…</error></testcase>
<testcase classname="tests.unit.test_b" name="test_not"><skipped message="no" /></testcase>
</testsuite></testsuites>
"""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return where results go to in this test."""
    monkeypatch.setattr(results, "WORK", tmp_path)
    monkeypatch.setattr(results, "TABLE", tmp_path / "matrix.md")
    return tmp_path / "matrix.md"


def test_each_cpython_and_each_micropython_meets_each_mosquitto() -> None:
    cells = [cell for cell in all_cells() if not cell.debian and cell.name != "parts"]
    mosquittos = {cell.mosquitto for cell in cells}
    assert len(mosquittos) == 3
    for field, count in (("python", 4), ("micropython", 4)):
        pairs = {(getattr(cell, field), cell.mosquitto) for cell in cells}
        assert count * 3 == len(pairs), field


def test_sid_and_debians_micropython_are_reported_and_all_else_is_required() -> None:
    reported = {cell.name for cell in all_cells() if not cell.required}
    assert reported == {"sid", "sid-micropython", "debian13-micropython"}


def test_a_report_is_counted(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    result = Result("a", "2026-11-28", "abc")
    result.take_report(tmp_path / "report.xml")
    assert result.counted() == "1 passed, 2 failed, 1 skipped"
    assert result.failures == ["tests.unit.test_a::test_bad", "tests.unit.test_b::test_broken"]


def test_the_table_keeps_what_was_measured_elsewhere(table: Path) -> None:
    cells = [Cell("a"), Cell("b", required=False, suites=("tests/unit",)), Cell("c")]
    failures = ["tests.unit.test_a::test_bad"]
    first = Result(
        "b", "2026-11-01", "abc", {"cpython": "3.14.0"}, 5, 1, 0, 2.6, False, "", failures
    )
    first.save()
    assert load("b") == first
    write_table(cells)
    row = "| b° | – | 3.14.0 | – | – | – | unit | 5 | 1 | 0 | 3 | 2026-11-01 | abc | "
    assert row + "tests/unit/test_a (1) |" in table.read_text().splitlines()

    # On another machine: it has no result of b, or cannot have one.
    (table.parent / "b.json").unlink()
    Result("a", "2026-11-02", "def", passed=7, good=True).save()
    for unavailable in ("", "no CPython 3.14 here"):
        if unavailable:
            Result("b", "2026-11-02", "def", unavailable=unavailable).save()
        write_table(cells)
        rows = [line for line in table.read_text().splitlines() if line.startswith("| ")]
        assert [line.split(" | ")[0] for line in rows] == ["| cell", "| a", "| b°"]
        assert row + "tests/unit/test_a (1) |" == rows[2]


def test_a_word_that_no_cell_has_is_a_mistake() -> None:
    command = [sys.executable, str(ROOT / "tests" / "matrix" / "run.py"), "--list", "no-such-cell"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(60), check=False)
    assert done.returncode == 2
    assert "no cell has such a name" in done.stderr


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_cell_that_cannot_be_run_is_a_failure_in_ci_and_said_elsewhere(
    tmp_path: Path, ci: str, code: int
) -> None:
    work, programs = tmp_path / "work", tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(require_program("git"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "matrix" / "run.py"), "--no-table", "debian13"],
        env={"PATH": str(programs), "CI": ci, "SECUREMQTT_MATRIX": str(work)},
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert code == done.returncode, done.stderr
    assert (
        "debian13 COULD NOT BE RUN: a Debian trixie of its own needs root, and deb" in done.stdout
    )
    assert sorted(path.name for path in work.iterdir()) == ["debian13.json", "debian13.log"]
