"""What came of a cell, kept in .build/matrix, and the table of docs/matrix.md."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from matrix.cells import Cell
from matrix.places import ROOT, WORK

TABLE = ROOT / "docs" / "matrix.md"
_HEAD = """\
# What it was tested with

Supported: CPython 3.10 to 3.15, MicroPython 1.25 and later, Debian 12 and 13, Mosquitto 2.0 and
2.1. Older MicroPythons are untested. Rows marked ° are reported and hold nothing up: Debian sid,
and the whole suite on Debian's own MicroPython. That one is linked to the system's mbedTLS, so it
speaks TLS 1.3 and reads PEM, as no board does; the library works on it, but names the cause of a
refused certificate less well.

`make test-matrix` writes this table; each row has a date of its own. *All of it* is `make test` in
a clean clone on a fresh Debian, with that Debian's CPython and Mosquitto. The other rows run the
unit, contract and security suites: over them each CPython meets each Mosquitto, and so does each
MicroPython. The rows `mosquitto…` run all that meets a Mosquitto. CI runs all of it on one machine,
and the row `parts`.

"""
_COLUMNS = (
    "cell",
    "Debian",
    "CPython",
    "OpenSSL",
    "MicroPython",
    "Mosquitto",
    "tests",
    "passed",
    "failed",
    "skipped",
    "minutes",
    "date",
    "commit",
    "what failed",
)


@dataclass
class Result:
    """What came of a cell."""

    cell: str
    date: str
    commit: str
    versions: dict[str, str] = field(default_factory=dict)
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    minutes: float = 0.0
    # the tests' exit code is 0
    good: bool = False
    # why it did not run
    unavailable: str = ""
    failures: list[str] = field(default_factory=list)

    def counted(self) -> str:
        """Return it as one line."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def take_report(self, path: Path) -> None:
        """Read pytest's report in the format of JUnit. Raise ElementTree.ParseError."""
        root = ElementTree.parse(path).getroot()  # noqa: S314  (our own pytest has written it)
        for case in root.iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed += 1
                self.failures.append(f"{case.get('classname')}::{case.get('name')}")
            elif case.find("skipped") is not None:
                self.skipped += 1
            else:
                self.passed += 1

    def save(self) -> None:
        """Keep it in .build/matrix."""
        _path(self.cell).write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(name: str) -> Result | None:
    """Return what came of a cell earlier; None if it has not run."""
    path = _path(name)
    return Result(**json.loads(path.read_text())) if path.exists() else None


def write_table(cells: list[Cell]) -> None:
    """Write docs/matrix.md: the rows of cells that have a result here, and the others as they were
    there.
    """
    rows = _rows_of(TABLE.read_text()) if TABLE.exists() else {}
    for cell in cells:
        result = load(cell.name)
        if result is not None and not (result.unavailable and cell.name in rows):
            rows[cell.name] = _row(cell, result)
    lines = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
        *(rows[cell.name] for cell in cells if cell.name in rows),
    ]
    TABLE.write_text(_HEAD + "\n".join(lines) + "\n")


def _path(name: str) -> Path:
    return WORK / f"{name}.json"


def _rows_of(text: str) -> dict[str, str]:
    return {
        found[1]: line
        for line in text.splitlines()
        if (found := re.match(r"\| ([\w.-]+)°? \|", line))
    }


def _row(cell: Cell, result: Result) -> str:
    measured = [result.versions.get(name, "–") for name in ("debian", "cpython", "openssl")]
    parts = [result.versions.get(name, "–") for name in ("micropython", "mosquitto")]
    suites = ", ".join(Path(suite).stem for suite in cell.suites) or "all of it"
    figures = [str(result.passed), str(result.failed), str(result.skipped)]
    if result.unavailable:
        figures = ["–"] * 3
    files = Counter(failure.split("::")[0].replace(".", "/") for failure in result.failures)
    failed = ", ".join(f"{name} ({count})" for name, count in files.items())
    return (
        "| "
        + " | ".join(
            [
                cell.name + ("" if cell.required else "°"),
                *measured,
                *parts,
                suites,
                *figures,
                f"{result.minutes:.0f}",
                result.date,
                result.commit,
                result.unavailable or failed,
            ]
        ).replace("\n", " ")
        + " |"
    )
