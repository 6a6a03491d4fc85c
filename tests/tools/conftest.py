"""Fixtures of the tools' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.provisioning import Provisioner
from support.simboard import require_micropython


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
