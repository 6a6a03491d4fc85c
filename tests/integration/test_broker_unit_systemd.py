"""`broker install` for HiveMQ and RabbitMQ: a real systemd runs `broker run` as the home's user."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.broker.unit import NAME
from securemqtt_tools.pki import Authority
from support.brokers.hivemq import hivemq_home, require_hivemq
from support.brokers.mqtt import Peer, Refused, client_context
from support.brokers.rabbitmq import require_rabbitmq
from support.identities.credentials import issued_credentials
from support.requirements import unavailable
from support.systemd.machine import SHARED, Machine

USER = "daemon"
TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = [pytest.mark.xdist_group("broker-unit"), pytest.mark.brokers]


@pytest.fixture(params=["hivemq", "rabbitmq"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "hivemq":
        require_hivemq()
    else:
        require_rabbitmq()
    return str(request.param)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as started:
        # In its own layer of files; this machine's stay as they are.
        for one in Path(sys.base_prefix).parents:
            started.run("chmod", "o+x", one)
        if started.run(sys.executable, "-c", "import cryptography", user=USER).returncode:
            unavailable(f"{USER} cannot read this Python, in {sys.prefix}: put the checkout there")
        yield started


def test_it_is_installed_runs_reloads_and_is_removed(machine: Machine, engine: str) -> None:
    home = machine.shared / "home"
    authority = Authority.create(home / "ca", passphrase=None)
    config = BrokerConfig.create(
        home / "broker",
        authority,
        names=["localhost"],
        port=free_port("127.0.0.1"),
        bind="127.0.0.1",
        engine=engine,
    )
    made = {one: issued_credentials(home, authority.issue_device(one)) for one in ("pump", "lost")}
    config.refresh(authority)
    owner = pwd.getpwnam(USER)
    for one in (machine.shared, home, *home.rglob("*")):
        os.chown(one, owner.pw_uid, owner.pw_gid)
    context = {one: client_context(home / "broker" / "ca.pem", made[one]) for one in made}
    variables = {}
    if engine == "hivemq":
        variables["HIVEMQ_HOME"] = str(hivemq_home())
        machine.run("chmod", "o+x", *hivemq_home().parents[:2])

    def tool(
        name: str, *arguments: str, user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, TOOLS / f"{name}.py", *arguments, "--home", SHARED / "home")
        return machine.run(*command, user=user, environment=variables)

    def enter(device_id: str) -> Peer:
        peer = Peer(config.port, context[device_id])
        peer.connect(device_id)
        return peer

    shown = tool("broker", "install", "--dry-run")
    assert "Nothing was changed." in shown.stdout, shown.stderr
    assert f"User={USER}" in shown.stdout
    refused = tool("broker", "install", "--yes", user=USER)
    # A clone in /tmp is warned of before.
    said = [line for line in refused.stderr.splitlines() if ": warning: " not in line]
    assert (refused.returncode, len(said)) == (1, 1)
    done = tool("broker", "install", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr + log(machine)
    assert "is running: port" in done.stdout
    pid = machine.checked("systemctl", "show", "--property=MainPID", "--value", NAME).strip()
    assert machine.checked("stat", "--format=%U", f"/proc/{pid}").strip() == USER
    with enter("pump") as pump, enter("lost") as lost:
        assert tool("ca", "revoke", "lost", user=USER).returncode == 0
        told = tool("broker", "reload", user=USER)
        assert f"process {pid}" in told.stdout, told.stderr
        lost.wait_closed()
        pump.drain()
    with pytest.raises(Refused):
        enter("lost")
    again = tool("broker", "install", "--yes")
    assert "is as it should be" in again.stdout, again.stderr
    removed = machine.run(sys.executable, TOOLS / "service.py", "remove", NAME)
    assert removed.returncode == 0, removed.stderr
    with pytest.raises((Refused, OSError)):
        enter("pump")


def log(machine: Machine) -> str:
    """Return what the service has said."""
    said = machine.run("journalctl", "--no-pager", f"--unit={NAME}").stdout
    broker = machine.shared / "home" / "broker" / "broker.log"
    return said + (broker.read_text()[-4000:] if broker.exists() else "")
