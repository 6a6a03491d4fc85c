"""What runs on both interpreters is tested on both, by the same files: each test of this directory,
under the real MicroPython.

Twice: as a board gets the library, compiled to `.mpy` without its asserts, and from source, which
`make test-long` does alone.
"""

from __future__ import annotations

import ast
import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.interpreters.micropython import (
    ROOT,
    board_environment,
    micropython_command,
    micropython_environment,
)
from support.speed import seconds

HERE = Path(__file__).parent
RUNNER = ROOT / "tests" / "support" / "interpreters" / "run_tests.py"
MARK = "=== "
# These need hypothesis, subprocesses or threads; every other file here must pass under MicroPython
# as it is.
CPYTHON_ONLY = {
    "test_histories_by_hypothesis.py",
    "test_outbox_disk.py",
    "test_on_micropython.py",
    "test_websocket.py",
}
# Far more than a board has: a file's tests share one heap, which the earlier ones leave in pieces,
# and the size of the pieces is chance. What fits a board is shown by tests/faults, tests/bench.
HEAP = "heapsize=4m"
RUN_S = seconds(200)


def shared_tests() -> list[tuple[str, str]]:
    """Return (module, function) for every test that both interpreters run."""
    tests = []
    for path in sorted(HERE.glob("test_*.py")):
        if path.name not in CPYTHON_ONLY:
            functions = (
                node
                for node in ast.parse(path.read_text()).body
                if isinstance(node, ast.FunctionDef)
            )
            tests += [(path.stem, node.name) for node in functions if node.name.startswith("test_")]
    return tests


class Account:
    """What came of the tests of one file, run by one interpreter."""

    def __init__(self, module: str, form: str, scratch: Path, where: Path = HERE) -> None:
        directories = (where, ROOT / "tests")
        if form == "mpy":
            environment = board_environment(scratch.parent, *directories)
        else:
            environment = micropython_environment(*directories)
        environment["SECUREMQTT_TEST_DIRECTORY"] = str(scratch)
        command = [*micropython_command("-X", HEAP), str(RUNNER), module]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=RUN_S, check=False
        )
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.skipped: set[str] = set()
        self._output: dict[str, str] = {}
        self.rest = done.stderr
        name = ""
        for line in done.stdout.splitlines(keepends=True):
            verdict, _, rest = line.removeprefix(MARK).strip().partition(" ")
            if not line.startswith(MARK):
                self._output[name] = self._output.get(name, "") + line
            elif verdict == "run":
                name = rest
            else:
                getattr(self, verdict).add(rest)

    def output(self, test: str) -> str:
        """Return what a test printed, its traceback included, and what came before the first
        test.
        """
        return self._output.get("", "") + self._output.get(test, "") + self.rest


Accounts = Callable[[str, str], Account]


@pytest.fixture(scope="session")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    """Run each file once per form of the library, when its first test asks for it."""
    workers = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else None

    @functools.cache
    def account(module: str, form: str) -> Account:
        if workers is not None:
            try:
                (workers / f"once-{form}-{module}").mkdir()
            except FileExistsError:
                pytest.fail(
                    "two workers run this file: with -n, --dist loadgroup keeps it together"
                )
        return Account(module, form, tmp_path_factory.mktemp(f"micropython-{form}-{module}"))

    return account


# A file's tests go to one worker of xdist, so that no other runs the file as well.
@pytest.mark.parametrize(
    ("module", "test", "form"),
    [
        pytest.param(
            module,
            test,
            form,
            marks=[
                pytest.mark.xdist_group(f"{module}-{form}"),
                # As a board has them they run each time; that the source is sound for MicroPython
                # as well, the contract suite shows.
                *([pytest.mark.long] if form == "source" else []),
            ],
        )
        for form in ("source", "mpy")
        for module, test in shared_tests()
    ],
)
def test_under_micropython(module: str, test: str, form: str, accounts: Accounts) -> None:
    account = accounts(module, form)
    if test in account.failed:
        pytest.fail(
            f"{module}.{test} under MicroPython ({form}):\n{account.output(test)}", pytrace=False
        )
    if test in account.skipped:
        pytest.skip(account.output(test).strip())
    assert test in account.passed, (
        f"{module}.{test} was not run to its end:\n{account.output(test)}"
    )


SAMPLE = """
from support.interpreters.either import cpython_only, micropython_only

def test_both(): pass

@micropython_only
def test_here(): pass

@cpython_only
def test_elsewhere(): assert False

def test_wrong(): assert False
"""


def test_a_test_that_is_not_for_micropython_is_skipped_there(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    account = Account("test_sample", "source", scratch, tmp_path)
    assert account.passed == {"test_both", "test_here"}, account.rest
    assert account.skipped == {"test_elsewhere"}
    assert account.failed == {"test_wrong"}
    assert account.output("test_elsewhere").strip() == "CPython only"
