"""Putting the broker into a system's Mosquitto: a system of its own, whose real Mosquitto is
restarted.
"""

from __future__ import annotations

import os
import shlex
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.mosquitto.install import Installation
from securemqtt_tools.broker.mosquitto.program import REWORKED_SINCE, find_mosquitto
from securemqtt_tools.broker.mosquitto.restart import restart_command
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.command import broker_run
from support.brokers.mqtt import Peer, client_context
from support.brokers.system import System, running_system
from support.identities.credentials import issued_credentials
from support.network.net import wait_until


@pytest.fixture
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    authority = Authority.create(directory / "ca", passphrase=None)
    BrokerConfig.create(
        directory / "broker", authority, names=["localhost"], port=free_port("127.0.0.1")
    )
    return directory


def enters(home: Path, device_id: str, port: int) -> bool:
    authority = Authority.open(home / "ca")
    credentials = issued_credentials(home, authority.issue_device(device_id, renew=True))
    with Peer(port, client_context(home / "broker" / "ca.pem", credentials)) as peer:
        peer.connect(device_id)
        peer.subscribe(f"devices/{device_id}/#")
        peer.publish(f"devices/{device_id}/t", b"21")
        return peer.receive() == (f"devices/{device_id}/t", b"21")


def test_install(system: System, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = BrokerConfig.open(home / "broker").port
    assert system.install(home, "--yes") == 0
    printed = capsys.readouterr()
    assert f"+listener {port} 127.0.0.1" in printed.out
    assert "+pattern readwrite devices/%u/#" in printed.out
    assert "PRIVATE" not in printed.out
    assert (
        f"warning: Mosquitto also listens without TLS, which is not ours to change: {system.etc}"
        in printed.err
    )
    assert enters(home, "pump", port)
    assert system.listens(system.port)
    # Root gives the service's group leave to read; whoever else installs it runs it, too.
    modes = (0o750, 0o640) if os.geteuid() == 0 else (0o700, 0o600)
    assert stat.S_IMODE(system.folder.stat().st_mode) == modes[0]
    assert {stat.S_IMODE(path.stat().st_mode) for path in system.folder.iterdir()} == {modes[1]}

    pid = system.pid_file.read_text()
    assert system.install(home, "--yes") == 0
    assert "Nothing would change" in capsys.readouterr().out
    assert system.pid_file.read_text() == pid


def test_installed_broker_takes_up_a_revocation(system: System, home: Path) -> None:
    config = BrokerConfig.open(home / "broker")
    assert system.install(home, "--yes") == 0
    authority = Authority.open(home / "ca")
    credentials = issued_credentials(home, authority.issue_device("lost"))
    with Peer(config.port, client_context(home / "broker" / "ca.pem", credentials)) as peer:
        peer.connect("lost")
        authority.revoke("lost")
        config.refresh(authority)
        assert system.install(home, "--yes") == 0
        peer.wait_closed()
    assert enters(home, "pump", config.port)


def test_while_broker_run_has_the_port_nothing_is_restarted(
    system: System, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, pid = system.content(), system.pid_file.read_text()
    with broker_run(home):
        assert system.install(home, "--dry-run") == 0
        capsys.readouterr()
        assert system.install(home, "--yes") == 1
        said = capsys.readouterr().err
        assert said.endswith(
            "runs, on the ports that Mosquitto is to have: end it first (Ctrl-C where it runs), "
            "and run this again; nothing was changed\n"
        )
    assert (system.content(), system.pid_file.read_text()) == (before, pid)
    assert system.install(home, "--yes") == 0


def test_a_restart_that_restarts_nothing_is_noticed(system: System, home: Path) -> None:
    config = BrokerConfig.open(home / "broker")
    assert system.install(home, "--yes") == 0
    authority = Authority.open(home / "ca")
    authority.issue_device("lost")
    authority.revoke("lost")
    program = find_mosquitto()
    assert program is not None
    before = system.content()
    installation = Installation(config.refresh(authority), program, system.etc, answer_s=1)
    with pytest.raises(
        FatalError,
        match=r"is a second Mosquitto running\?; the previous configuration is back; look",
    ):
        installation.apply(["true"])
    assert system.content() == before


def test_only_what_is_in_use_is_installed(
    system: System, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def announced() -> set[str]:
        assert system.install(home, "--dry-run") == 0
        return {
            Path(line.split()[-1]).name
            for line in capsys.readouterr().out.splitlines()
            if line.startswith(("new: ", "+++ "))
        }

    program = find_mosquitto()
    assert program is not None
    usual = {"ca.pem", "crl.pem", "server.pem", "acl", "securemqtt.conf"}
    assert announced() == usual
    BrokerConfig.open(home / "broker").changed(
        passwords=True, websockets_port=free_port("127.0.0.1")
    )
    of_its_own = {"ca.websockets.pem"} if program.version < REWORKED_SINCE else set()
    assert announced() == usual | {"passwords"} | of_its_own


def test_dry_run_changes_nothing(
    system: System, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, pid = system.content(), system.pid_file.read_text()
    assert system.install(home, "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Nothing was changed."
    assert "+require_certificate true" in out
    assert (system.content(), system.pid_file.read_text()) == (before, pid)


def test_asks_first(system: System, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = system.content()
    assert system.install(home) == 1  # there is no terminal here
    assert "add --yes" in capsys.readouterr().err
    assert system.content() == before


def test_configuration_that_mosquitto_refuses_is_not_written(
    system: System, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # a second acl_file, ours, is an error
    (system.etc / "conf.d" / "aaa.conf").write_text("acl_file /nowhere\n")
    before, pid = system.content(), system.pid_file.read_text()
    assert system.install(home, "--yes") == 1
    assert "Mosquitto does not take this configuration: Error: " in capsys.readouterr().err
    assert (system.content(), system.pid_file.read_text()) == (before, pid)


@pytest.mark.parametrize("again", [False, True])
def test_what_does_not_start_is_put_back(system: System, home: Path, again: bool) -> None:
    config = BrokerConfig.open(home / "broker")
    if again:
        assert system.install(home, "--yes") == 0
    before = system.content()
    program = find_mosquitto()
    assert program is not None
    # the trial uses other ports, so only the restart finds out
    with socket.create_server(("127.0.0.1", 0)) as taken:
        changed = config.changed(port=taken.getsockname()[1])
        installation = Installation(changed, program, system.etc, answer_s=1)
        installation.try_out()
        with pytest.raises(FatalError, match=r"the previous configuration is back; look") as caught:
            installation.apply(shlex.split(system.restart))
    # There is why: the port is taken.
    assert str(caught.value).endswith(str(system.log))
    assert "Address already in use" in system.log.read_text()
    assert system.content() == before
    wait_until(lambda: system.listens(system.port), what="the system's Mosquitto")
    if again:
        assert enters(home, "pump", config.port)


def test_restart_that_fails(system: System, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = system.content()
    system.restart = "sh -c 'echo no such service >&2; exit 5'"
    assert system.install(home, "--yes") == 1
    err = capsys.readouterr().err
    assert "failed: no such service; look into " in err
    assert err.endswith(f"{system.log}\n")
    assert "the previous configuration is back, but: " in err
    assert system.content() == before


def test_the_command_service_is_found_by_plain_users_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    if not Path("/usr/sbin/service").exists():
        pytest.skip("this system has no such command")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert restart_command()[1:] == ["mosquitto", "restart"]


def test_trial_leaves_saved_sessions_alone(system: System, home: Path) -> None:
    saved = system.data / "mosquitto.db"
    saved.write_bytes(b"saved")
    before = set(system.data.iterdir())
    assert system.install(home, "--dry-run") == 0
    assert set(system.data.iterdir()) == before
    assert saved.read_bytes() == b"saved"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            lambda etc: (etc / "mosquitto.conf").unlink(),
            "say where its configuration is with --etc",
        ),
        (
            lambda etc: (etc / "mosquitto.conf").write_text("persistence true\n"),
            "add the line include_dir",
        ),
        (
            lambda etc: (etc / "conf.d" / "0.conf").write_text("per_listener_settings true\n"),
            "0.conf says per_listener_settings, with which our rules would not hold",
        ),
    ],
)
def test_system_that_is_not_as_it_should_be(
    system: System, home: Path, capsys: pytest.CaptureFixture[str], damage: object, complaint: str
) -> None:
    assert callable(damage)
    damage(system.etc)
    assert system.install(home, "--yes") == 1
    assert complaint in capsys.readouterr().err


def test_ports_must_be_fixed(
    system: System, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BrokerConfig.open(home / "broker").changed(port=0)
    assert system.install(home, "--yes") == 1
    assert "needs fixed ports" in capsys.readouterr().err
