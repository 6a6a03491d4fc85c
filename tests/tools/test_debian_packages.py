"""Programs of other releases of Debian, as the tests and the benchmark get them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from support.debian_packages import DebianProgram, UnavailableError
from support.interpreters.micropython32 import find_micropython32, require_micropython32
from support.requirements import (
    MICROPYTHON_VARIABLE,
    MOSQUITTO_VARIABLE,
    find_program,
    unavailable,
)
from support.speed import seconds

ROOT = Path(__file__).resolve().parents[2]
NAME = "micropython-trixie-i386"
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


@pytest.mark.parametrize(
    ("name", "variable"),
    [("micropython", MICROPYTHON_VARIABLE), ("mosquitto", MOSQUITTO_VARIABLE)],
)
def test_the_environment_names_the_program_that_the_tests_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, variable: str
) -> None:
    monkeypatch.setenv(variable, sys.executable)
    assert find_program(name) == sys.executable
    monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="names no program"):
        find_program(name)


def test_the_tools_take_the_mosquitto_of_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        path = DebianProgram("mosquitto", "trixie").find()
    except UnavailableError as error:
        unavailable(str(error))
    monkeypatch.setenv(MOSQUITTO_VARIABLE, str(path))
    program = find_mosquitto()
    assert program is not None
    assert (program.path, program.version) == (path, (2, 0, 21))


def test_without_the_keys_of_debian_it_is_said_which_package_has_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require_micropython32()
    monkeypatch.setattr("support.debian_packages.KEYRING", tmp_path / "nothing")
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
    assert said == [str(tmp_path / NAME / "usr" / "bin" / "micropython")] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        NAME,
        NAME + ".lock",
    ]
