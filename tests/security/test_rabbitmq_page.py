"""docs/rabbitmq.md, from nothing to a message, and a change of the rules and a revocation on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt import Client
from securemqtt_tools.cli import main
from support.brokers.rabbitmq import require_rabbitmq
from support.network.net import free_port, wait_until
from support.speed import seconds

pytestmark = [pytest.mark.xdist_group("rabbitmq-page"), pytest.mark.brokers]


def run(home: Path, *arguments: str) -> None:
    assert main([*arguments, "--home", str(home)]) == 0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    require_rabbitmq()
    home = tmp_path / "home"
    run(home, "ca", "init", "--leave-keys-unencrypted")
    run(home, "broker", "init", "localhost", "--operator", "hub", "--port", str(free_port()))
    return home


@pytest.fixture
def running(home: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "securemqtt_tools.broker.rabbitmq", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("RabbitMQ 3.10.")
        yield process
    finally:
        process.terminate()
        assert process.wait(seconds(60)) == 0


def test_the_page(home: Path, running: subprocess.Popen[str], tmp_path: Path) -> None:
    """Devices that get their certificates while it runs are let in, and one that is revoked is
    not.
    """
    assert running.stdout is not None
    for one in ("hub", "greenhouse-1"):
        run(
            home,
            "provision",
            "pi",
            "--id",
            one,
            "--broker",
            "localhost",
            "--out",
            str(tmp_path / one),
        )
    assert running.stdout.readline() == "Reloaded.\n"
    got: list[bytes] = []
    with Client(tmp_path / "hub") as hub, Client(tmp_path / "greenhouse-1") as device:
        hub.subscribe("devices/+/reading", lambda message: got.append(message.payload))

        def heard() -> bool:
            device.publish("~/reading", b"21.5")  # again, until the hub has subscribed
            device.wait(0.05)
            hub.wait(0.05)
            return bool(got)

        wait_until(heard, seconds(30))
        assert set(got) == {b"21.5"}
        run(home, "ca", "revoke", "greenhouse-1")
        run(home, "broker", "reload")
        wait_until(lambda: (device.wait(0.01), not device.connected)[1], seconds(30))
        assert hub.connected
