"""A broker on another computer than the authority: what it is given is what was copied there."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.broker.revocations import CRL, FILES
from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.pki import Authority
from support.brokers.command import broker_run
from support.brokers.mqtt import Peer, Refused, client_context
from support.identities.credentials import issued_credentials
from support.requirements import require_program


class Elsewhere:
    """A home with the authority, and another with the broker alone."""

    def __init__(self, directory: Path, websockets: bool, intermediate: bool = False) -> None:
        require_program("mosquitto")
        self.near, self.far = directory / "near", directory / "far"
        self.backup = directory / "backup"
        authority = Authority.create(self.near / "ca", passphrase=None, intermediate=intermediate)
        self._devices = {
            one: issued_credentials(directory, authority.issue_device(one))
            for one in ("pump", "lost")
        }
        shutil.copytree(self.near / "ca", self.backup)
        if intermediate:
            self.ca("replace-intermediate")
            authority = Authority.open(self.near / "ca")
        self.config = BrokerConfig.create(
            self.far / "broker",
            authority,
            names=["localhost"],
            port=free_port("127.0.0.1"),
            websockets_port=free_port("127.0.0.1") if websockets else None,
        )

    def ca(self, *arguments: str | Path) -> None:
        """Run a command where the authority is."""
        assert main([*map(str, arguments), "--home", str(self.near)], command="ca") == 0

    def restore(self) -> None:
        """Put the authority's backup, of before anything was revoked, in its place, and have it
        sign a CRL.
        """
        shutil.rmtree(self.near / "ca")
        shutil.copytree(self.backup, self.near / "ca")
        self.ca("crl")

    def copy(self, *names: str) -> None:
        """Copy files of the authority's directory to the broker."""
        for name in names:
            if (self.near / "ca" / name).exists():  # root-crl.pem is not, without an intermediate
                shutil.copy(self.near / "ca" / name, self.config.directory)

    def context(self, device_id: str) -> ssl.SSLContext:
        return client_context(self.config.directory / "ca.pem", self._devices[device_id])

    def enter(self, device_id: str, websockets: bool = False) -> Peer:
        port = self.config.websockets_port if websockets else self.config.port
        assert port is not None
        peer = Peer(port, self.context(device_id), websockets=websockets)
        try:
            peer.connect(device_id, clean=False)
            peer.drain()
        except BaseException:
            peer.drop()
            raise
        return peer

    def revoke(self, device_id: str, *copied: str) -> None:
        """Revoke where the authority is, and copy these files of its directory to the broker."""
        self.ca("revoke", device_id)
        self.copy(*copied)

    def reload(self, running: subprocess.Popen[str]) -> str:
        """Run `broker reload` where the broker is; return what that broker says to it."""
        assert main(["reload", "--home", str(self.far)], command="broker") == 0
        assert running.stdout is not None
        while (line := running.stdout.readline()).startswith("Note: "):
            pass
        return line


def test_a_revocation_interrupts_that_device_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Elsewhere(tmp_path, websockets=False)
    with (
        broker_run(elsewhere.far) as process,
        elsewhere.enter("pump") as pump,
        elsewhere.enter("lost") as lost,
    ):
        elsewhere.revoke("lost", *FILES)
        assert f"A broker elsewhere needs {', '.join(FILES[1:])}" in capsys.readouterr().out
        assert elsewhere.reload(process) == "Reloaded.\n"
        printed = capsys.readouterr()
        assert "The CRL lists 1 revoked" in printed.out
        assert "used as they are, since the authority is not here" in printed.out
        assert printed.err == ""
        lost.wait_closed()
        with pytest.raises(Refused):
            elsewhere.enter("lost")
        pump.drain()


def test_a_revocation_reaches_websockets(tmp_path: Path) -> None:
    elsewhere = Elsewhere(tmp_path, websockets=True)
    with broker_run(elsewhere.far) as process:
        elsewhere.revoke("lost", *FILES)
        elsewhere.reload(process)
        for websockets in (True, False):
            elsewhere.enter("pump", websockets).drop()
            with pytest.raises(Refused):
                elsewhere.enter("lost", websockets)


def test_a_crl_that_comes_alone_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Elsewhere(tmp_path, websockets=False)
    elsewhere.revoke("lost", CRL)
    capsys.readouterr()
    reload = ["reload", "--home", str(elsewhere.far)]
    assert main(reload, command="broker") == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{elsewhere.config.directory / CRL} came without the files that belong to it" in err
    assert "copy revoked.json, ca.websockets.pem, crl.pem together" in err
    elsewhere.revoke("pump", *FILES)
    capsys.readouterr()
    assert main(reload, command="broker") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("older", [True, False], ids=["older", "missing"])
def test_what_shuts_out_of_websockets_has_to_come_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], older: bool
) -> None:
    elsewhere = Elsewhere(tmp_path, websockets=True)
    with broker_run(elsewhere.far) as process:
        if not older:
            (elsewhere.config.directory / "ca.websockets.pem").unlink()
        elsewhere.revoke("lost", "revoked.json", CRL)
        capsys.readouterr()
        said = elsewhere.reload(process)
        assert "since ca.websockets.pem is another one" in capsys.readouterr().err
        assert "eloaded, but" in said or "estarted, but" in said
        elsewhere.copy(*FILES)
        assert ", but" not in elsewhere.reload(process)


@pytest.mark.parametrize("intermediate", [True, False], ids=["intermediate", "root alone"])
def test_an_authority_that_was_restored_lets_nobody_in_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], intermediate: bool
) -> None:
    """The broker does not run while files are copied there. It has never gone by the intermediate
    that comes back: the root's CRL lists it.
    """
    elsewhere = Elsewhere(tmp_path, websockets=False, intermediate=intermediate)
    if not intermediate:
        elsewhere.revoke("lost", *FILES)
        with broker_run(elsewhere.far):
            pass
    elsewhere.restore()
    elsewhere.copy(*FILES)
    for command in ("reload", "run"):
        capsys.readouterr()
        assert main([command, "--home", str(elsewhere.far)], command="broker") == 1
        assert "comes from a backup" in capsys.readouterr().err
    if intermediate:
        elsewhere.ca("replace-intermediate")
    else:
        (kept,) = elsewhere.config.directory.glob("crl.newest*.pem")
        elsewhere.ca("recover", shutil.copy(kept, tmp_path / "copy.pem"))
    elsewhere.copy(*FILES)
    with broker_run(elsewhere.far), pytest.raises(Refused):
        elsewhere.enter("lost")


def test_an_intermediate_that_nobody_vouches_for_is_not_taken_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Elsewhere(tmp_path, websockets=False, intermediate=True)
    elsewhere.ca("replace-intermediate")
    elsewhere.copy(CRL)
    reload = ["reload", "--home", str(elsewhere.far)]
    capsys.readouterr()
    assert main(reload, command="broker") == 1
    assert "came without ca.websockets.pem" in capsys.readouterr().err
    elsewhere.copy(*FILES)
    assert main(reload, command="broker") == 0


def test_what_was_read_counts_by_whatever_way_it_was_read(tmp_path: Path) -> None:
    """It was read to end TLS sessions, an hour before any reload."""
    elsewhere = Elsewhere(tmp_path, websockets=False)
    directory = elsewhere.config.directory
    shutil.copytree(directory, tmp_path / "before")
    with BrokerProcess(directory, engine="mosquitto") as broker:
        elsewhere.revoke("lost", *FILES)
        assert broker.end_tls_sessions()
        with pytest.raises(Refused):
            elsewhere.enter("lost")
        shutil.copytree(tmp_path / "before", directory, dirs_exist_ok=True)
        for take_up in (broker.reload, broker.end_tls_sessions, broker.restart):
            with pytest.raises(FatalError, match="comes from a backup"):
                take_up()
        with pytest.raises(Refused):
            elsewhere.enter("lost")
