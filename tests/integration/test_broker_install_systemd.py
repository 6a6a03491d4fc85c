"""Installing the broker into Debian's own Mosquitto, as its package has it, which systemd runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, client_context
from support.identities.credentials import issued_credentials
from support.requirements import unavailable
from support.systemd.machine import SHARED, Machine

_RUN = """
said=$0 until=$1; shift
"$@" > "$said" & pid=$!
until grep -q "$until" "$said" || ! kill -0 $pid; do sleep 0.05; done
grep -q "$until" "$said" && kill $pid
wait $pid; status=$?
cat "$said"; exit $status
"""
BROKER = Path(__file__).parents[2] / "tools" / "broker.py"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as started:
        if started.run("systemctl", "cat", "mosquitto").returncode:
            unavailable("mosquitto is not installed from its package: apt-get install mosquitto")
        if started.run(sys.executable, "-c", "import cryptography").returncode:
            unavailable("this Python is not in the system that SECUREMQTT_SYSTEMD names")
        yield started


def install(machine: Machine, until: str) -> subprocess.CompletedProcess[str]:
    """Run the command; it is told to end when it has said this."""
    command = (sys.executable, BROKER, "install", "--yes", "--home", SHARED / "home")
    return machine.run("sh", "-c", _RUN, SHARED / "said", until, *command)


def test_a_revocation_interrupts_that_device_alone(machine: Machine) -> None:
    home = machine.shared / "home"
    authority = Authority.create(home / "ca", passphrase=None)
    config = BrokerConfig.create(
        home / "broker",
        authority,
        names=["localhost"],
        port=free_port("127.0.0.1"),
        bind="127.0.0.1",
    )

    def enter(device_id: str) -> Peer:
        credentials = issued_credentials(home, authority.issue_device(device_id))
        peer = Peer(config.port, client_context(home / "broker" / "ca.pem", credentials))
        peer.connect(device_id)
        return peer

    machine.checked("systemctl", "start", "mosquitto")
    done = install(machine, "is told to do nothing")
    assert done.returncode == 0, done.stdout + done.stderr
    pid = machine.checked("systemctl", "show", "--property=MainPID", "mosquitto")
    with enter("pump") as pump, enter("lost") as lost:
        authority.revoke("lost")
        config.refresh(authority)
        done = install(machine, "Who was revoked is out")
        assert done.returncode == 130, done.stdout + done.stderr
        assert "to be sure, run systemctl restart mosquitto" in done.stderr
        lost.wait_closed()
        pump.drain()
    assert machine.checked("systemctl", "show", "--property=MainPID", "mosquitto") == pid
    # The socket is not for other users to enter, who could do nothing there.
    place = "/var/lib/mosquitto/securemqtt.socket"
    who = machine.checked("stat", "--format=%U %a", place).split()
    assert who[0] == "mosquitto"
    assert int(who[1], 8) & 0o007 == 0
