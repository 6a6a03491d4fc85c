"""MicroPython on 32 bits, as the tests and the benchmark get it from Debian."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.interpreters.micropython32 import (
    ROOT,
    UnavailableError,
    find_micropython32,
    require_micropython32,
)
from support.requirements import MICROPYTHON_VARIABLE, find_program
from support.speed import seconds

LOOK = """
import sys, tls, vfs
print(sys.maxsize)
for name in ("CERT_REQUIRED", "PROTOCOL_TLS_CLIENT"):
    assert hasattr(tls, name), name
for name in ("VfsLfs2", "VfsRom"):
    assert hasattr(vfs, name), name
"""
ENSURE = """
import sys
from pathlib import Path
from support.interpreters.micropython32 import find_micropython32
print(find_micropython32(Path(sys.argv[1])))
"""


def test_it_has_32_bits_and_what_the_library_and_the_simulated_board_need() -> None:
    done = subprocess.run(
        [str(require_micropython32()), "-c", LOOK],
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{2**31 - 1}\n", "")


def test_the_environment_names_the_interpreter_that_the_tests_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = str(require_micropython32())
    monkeypatch.setenv(MICROPYTHON_VARIABLE, chosen)
    assert find_program("micropython") == chosen
    monkeypatch.setenv(MICROPYTHON_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="names no program"):
        find_program("micropython")


def test_without_the_keys_of_debian_it_is_said_which_package_has_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require_micropython32()
    monkeypatch.setattr("support.interpreters.micropython32._KEYRING", tmp_path / "nothing")
    with pytest.raises(UnavailableError, match="apt-get install debian-archive-keyring"):
        find_micropython32(tmp_path / "cache")


@pytest.mark.long
def test_two_processes_that_need_it_at_the_same_time_download_it_once(tmp_path: Path) -> None:
    require_micropython32()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ENSURE, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=seconds(300))[0].strip() for process in both]
    assert said == [str(tmp_path / "micropython32" / "micropython")] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "micropython32",
        "micropython32.lock",
    ]
