"""Which programs the tests run: told at their start, and an error where none is named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.requirements import (
    MICROPYTHON_VARIABLE,
    MOSQUITTO_VARIABLE,
    find_program,
    require_program,
)
from support.setup_environment import ROOT
from support.speed import seconds


def _pytest(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one file, of which it collects the tests only."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0"]
    return subprocess.run(
        [*command, "--collect-only", "tests/unit/test_backoff.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds(100),
    )


def test_the_header_says_which_programs_are_run() -> None:
    micropython, mosquitto = require_program("micropython"), require_program("mosquitto")
    done = _pytest(**{MICROPYTHON_VARIABLE: micropython, MOSQUITTO_VARIABLE: mosquitto})
    lines = done.stdout.splitlines()
    (first,) = [line for line in lines if line.startswith("MicroPython: ")]
    (second,) = [line for line in lines if line.startswith("Mosquitto: ")]
    assert first.startswith("MicroPython: 1.") and first.endswith(f"({micropython})")
    assert "version 2." in second and second.endswith(f"({mosquitto})")


@pytest.mark.parametrize("variable", [MICROPYTHON_VARIABLE, MOSQUITTO_VARIABLE])
@pytest.mark.parametrize("value", ["", "/no/such/program"])
def test_a_name_of_no_program_ends_the_tests_before_they_begin(variable: str, value: str) -> None:
    done = _pytest(**{variable: value})
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert variable in done.stderr and "names no program: correct it, or unset it" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["micropython", "mosquitto"])
def test_nothing_is_no_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SECUREMQTT_{name.upper()}", "")
    with pytest.raises(FileNotFoundError, match="is set to nothing"):
        find_program(name)
    monkeypatch.delenv(f"SECUREMQTT_{name.upper()}")
    assert find_program(name) == require_program(name)
