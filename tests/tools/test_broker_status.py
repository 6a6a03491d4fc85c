"""`broker status`: whether it runs, who may what, and what runs out when."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.passwords import set_password
from securemqtt_tools.broker.status import ask_status
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from support.network.net import free_port
from support.speed import seconds

SCRIPT = str(Path(__file__).parents[2] / "tools" / "broker.py")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make a home with an authority and a broker that does not run."""
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    BrokerConfig.create(
        tmp_path / "broker",
        authority,
        names=["localhost", "127.0.0.1"],
        port=free_port(),
        roles={"hub": "operator", "eye": "monitor"},
        passwords=True,
    )
    set_password(tmp_path / "broker" / "passwords", "hub")
    return tmp_path


def _status(home: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    capsys.readouterr()
    status = main(["status", "--home", str(home)], command="broker")
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = (line.split("  ", 1) for line in printed.out.splitlines())
    return status, {title: value.strip() for title, value in lines}


def test_a_broker_that_does_not_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = BrokerConfig.open(home / "broker").port
    status, said = _status(home, capsys)
    assert status == 1
    assert said["broker"] == f"{(home / 'broker').resolve()}, for localhost, 127.0.0.1"
    assert said["running"] == "no: securemqtt broker run starts it"
    assert said[f"port {port}"] == "nothing answers"
    assert said["certificate"].startswith("of your authority, until 20")
    assert said["CRL"].startswith("0 revoked, until 20")
    assert said["roles"] == "eye (monitor), hub (operator)"
    assert said["passwords"] == "demanded; 1 set"


def test_a_broker_that_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, SCRIPT, "run", "--engine", "amqtt", "--home", str(home)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert "is running: port" in process.stdout.readline()
            status, said = _status(home, capsys)
            assert (status, said["running"]) == (0, f"yes: broker run, process {process.pid}")
            assert "answers" in said.values()
        finally:
            process.terminate()
            process.communicate(timeout=seconds(60))
    assert _status(home, capsys)[0] == 1


def test_a_port_that_somebody_else_answers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BrokerProcess(home / "broker", engine="amqtt"):
        status, said = _status(home, capsys)
    assert (status, said["running"]) == (
        0,
        "its port answers, but not from broker run: the system's Mosquitto?",
    )


def test_what_runs_out_is_told(home: Path) -> None:
    config = BrokerConfig.open(home / "broker")
    now = datetime.now(timezone.utc)
    assert ask_status(config, now, home / "ca").warnings == []
    late = ask_status(config, now + timedelta(days=1000), home / "ca")
    assert late.rows["certificate"].startswith("of your authority, ran out on 20")
    assert len(late.warnings) == 1 and "its certificate has run out" in late.warnings[0]


def test_where_no_broker_is_set_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "status", "--home", str(tmp_path)]) == 1
    assert "there is no broker in" in capsys.readouterr().err
