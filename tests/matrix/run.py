"""Run the tests over combinations of versions: `make test-matrix CELLS="debian13 cpython3.10"`.

A cell that has ended is not run again (.build/matrix has its result and its log) unless --again
says so. The table in docs/matrix.md takes the results. The exit code is 1 if a test of a required
cell failed, and in CI also if one could not be run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from matrix.cells import HERE_PYTHON, Cell, all_cells
from matrix.places import ROOT, WORK, Here, Place, place_of
from matrix.results import Result, load, write_table
from support.debian_packages import DebianProgram, UnavailableError
from support.requirements import (
    IN_CI,
    MICROPYTHON_VARIABLE,
    MOSQUITTO_VARIABLE,
)

_NOT_SET_UP = 75
_SHOWN_LINES = 60


def main() -> int:
    """Run the cells that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("cells", nargs="*", help="names of cells, or parts of them (default: all)")
    parser.add_argument("--again", action="store_true", help="run those again that have ended")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--no-table", action="store_true", help="leave docs/matrix.md alone")
    parser.add_argument("--workers", default="2", help="tests that run at the same time")
    arguments = parser.parse_args()
    cells = [cell for cell in all_cells() if _is_meant(cell, arguments.cells)]
    if not cells:
        parser.error("no cell has such a name: --list says what there is")
    WORK.mkdir(parents=True, exist_ok=True)
    good = True
    for number, cell in enumerate(cells, 1):
        result = load(cell.name)
        ended = result is not None and not result.unavailable
        if arguments.list:
            print(f"{cell.name}: {result.counted() if result and ended else 'has not run'}")
            continue
        if result is None or not ended or arguments.again:
            print(f"matrix: {number} of {len(cells)}, {cell.name}, log {_log(cell)}", flush=True)
            result = _run(cell, arguments.workers)
            # That it cannot run now does not take away that it has.
            if not ended or not result.unavailable:
                result.save()
            if not arguments.no_table:
                write_table(all_cells())
        _report(cell, result)
        good = good and (result.good or not cell.required or bool(result.unavailable and not IN_CI))
    return 0 if good else 1


def _is_meant(cell: Cell, words: list[str]) -> bool:
    """Return True if a word is the cell's name, or a part of it and no cell's whole name; without
    words every cell is meant.
    """
    names = {one.name for one in all_cells()}
    return not words or any(
        cell.name == word if word in names else word in cell.name for word in words
    )


def _run(cell: Cell, workers: str) -> Result:
    started = time.monotonic()
    result = Result(cell.name, datetime.date.today().isoformat(), _commit())
    log = _log(cell)
    log.write_text("")
    try:
        place = place_of(cell)
        report, versions = (place.checkout / name for name in _outputs(cell))
        for path in (report, versions):
            path.unlink(missing_ok=True)
        code = place.run(_script(cell, place, workers), log)
        if code == _NOT_SET_UP:
            raise UnavailableError(log.read_text().strip().splitlines()[-1])
        result.versions = json.loads(versions.read_text())
        if report.exists():
            result.take_report(report)
            result.good = code == 0
        else:
            result.failed, result.failures = 1, [f"no report, exit code {code}"]
    except UnavailableError as error:
        result.unavailable = str(error)
    result.minutes = (time.monotonic() - started) / 60
    return result


def _script(cell: Cell, place: Place, workers: str) -> str:
    """Return what bash runs: make the environment, note the versions, run the tests."""
    report, versions = _outputs(cell)
    environment, make = _environment(cell, place)
    python = f"{environment}/bin/python"
    steps = ["mkdir -p .build/matrix", "export CI=true"]
    if cell.packages:
        names = " ".join(cell.packages)
        steps.append("export DEBIAN_FRONTEND=noninteractive")
        steps.append(f"apt-get -q update && apt-get -q install -y --no-install-recommends {names}")
    steps.append(make)
    steps.append("sh tests/support/system_packages.sh")
    for name, value in cell.settings:
        steps.append(f"export {name}={shlex.quote(value)}")
    chosen = ((MICROPYTHON_VARIABLE, cell.micropython), (MOSQUITTO_VARIABLE, cell.mosquitto))
    for variable, program in chosen:
        if program is not None:
            steps.append(f"{variable}=$({_fetch(python, program)}) && export {variable}")
            steps.append("chmod a+rX .build .build/cache")  # for the user that Mosquitto becomes
    steps.append(f"{python} tests/matrix/versions.py > {versions}")
    options = f"-n {shlex.quote(workers)} --junitxml={report}"
    if cell.suites:
        test = f'{python} -m pytest -m "not long and not brokers" --dist loadgroup {options} '
        test += " ".join(cell.suites)
    else:
        test = f"make test PYTHON={place.python(cell.python)} PYTEST_OPTIONS={shlex.quote(options)}"
    return "\n".join([*(f"{{ {step}; }} || exit {_NOT_SET_UP}" for step in steps), test])


def _outputs(cell: Cell) -> tuple[str, str]:
    """Return where a cell leaves pytest's report and the versions, in its checkout."""
    return f".build/matrix/{cell.name}.report.xml", f".build/matrix/{cell.name}.versions.json"


def _environment(cell: Cell, place: Place) -> tuple[str, str]:
    """Return the virtual environment of a cell, and the command that makes it."""
    command = place.python(cell.python)
    if not cell.suites or (isinstance(place, Here) and cell.python == HERE_PYTHON):
        return ".venv", "make setup" if isinstance(place, Here) else f"make setup PYTHON={command}"
    directory = f".build/matrix/venv-{cell.python}"
    return directory, f"{command} tests/support/setup_environment.py {directory}"


def _fetch(python: str, program: DebianProgram) -> str:
    words = (program.name, program.release, program.architecture)
    return f"PYTHONPATH=tests {python} -m support.debian_packages {' '.join(words)}"


def _report(cell: Cell, result: Result) -> None:
    if result.unavailable:
        print(f"matrix: {cell.name} COULD NOT BE RUN: {result.unavailable}", flush=True)
        return
    if not result.good and _log(cell).exists():
        for line in _log(cell).read_text().splitlines()[-_SHOWN_LINES:]:
            print(f"    {line}")
    note = "" if cell.required or result.good else " (reported only)"
    print(f"matrix: {cell.name} took {result.minutes:.1f} min on {result.date}{note}")
    print(f"{cell.name}: {result.counted()}", flush=True)


def _log(cell: Cell) -> Path:
    return WORK / f"{cell.name}.log"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or "–"


if __name__ == "__main__":
    sys.exit(main())
