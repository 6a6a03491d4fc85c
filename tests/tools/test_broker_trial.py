"""A trial of a configuration is not decided by who else takes a port in that moment."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from securemqtt_tools.broker.mosquitto.program import Program, find_mosquitto
from securemqtt_tools.broker.mosquitto.trial import try_out
from securemqtt_tools.broker.ports import PORT_ATTEMPTS
from securemqtt_tools.cli import FatalError
from support.requirements import require_program

# Mosquitto, beside a program that was faster with its port the first times.
BEATEN = """#!{python}
import os, pathlib, re, socket, subprocess, sys
starts = pathlib.Path({starts!r})
with starts.open("a") as file:
    file.write("start\\n")
port = int(re.search(r"(?m)^listener ([0-9]+)", pathlib.Path(sys.argv[2]).read_text())[1])
squatter = socket.create_server(("127.0.0.1", port))
if starts.read_text().count("start") > {times}:
    squatter.close()
    os.execv({mosquitto!r}, [{mosquitto!r}, *sys.argv[1:]])
sys.exit(subprocess.run([{mosquitto!r}, *sys.argv[1:]]).returncode)
"""


@pytest.fixture
def mosquitto() -> Program:
    require_program("mosquitto")
    program = find_mosquitto()
    assert program is not None
    return program


def beaten(program: Program, directory: Path, times: int) -> tuple[Program, Path]:
    script, starts = directory / "beaten", directory / "starts"
    script.write_text(
        BEATEN.format(
            python=sys.executable, starts=str(starts), times=times, mosquitto=str(program.path)
        )
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return Program(script, program.version), starts


def test_another_port_is_tried_where_one_was_taken(mosquitto: Program, tmp_path: Path) -> None:
    program, starts = beaten(mosquitto, tmp_path, 2)
    try_out(program, ["listener 1883", "allow_anonymous true"], tmp_path / "folder", {})
    assert starts.read_text().count("start") == 3


def test_not_for_ever(mosquitto: Program, tmp_path: Path) -> None:
    program, starts = beaten(mosquitto, tmp_path, 100)
    with pytest.raises(
        FatalError, match=r"does not take this configuration: Error: Address already in use"
    ):
        try_out(program, ["listener 1883"], tmp_path / "folder", {})
    assert starts.read_text().count("start") == PORT_ATTEMPTS


def test_a_mistake_is_not_tried_again(mosquitto: Program, tmp_path: Path) -> None:
    program, starts = beaten(mosquitto, tmp_path, 0)
    complaint = r'configuration: Error: Unknown configuration variable "nonsense"\.$'
    with pytest.raises(FatalError, match=complaint):
        try_out(program, ["listener 1883", "nonsense true"], tmp_path / "folder", {})
    assert starts.read_text().count("start") == 1
