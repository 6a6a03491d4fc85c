"""A broker on another computer than the authority: what it is given is what was copied there."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.broker.revocations import CRL, FILES
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from support.brokers.command import broker_run
from support.brokers.mqtt import Peer, Refused, client_context
from support.identities.credentials import issued_credentials
from support.requirements import require_program


class Elsewhere:
    """A home with the authority, and another with the broker alone."""

    def __init__(self, directory: Path, websockets: bool) -> None:
        require_program("mosquitto")
        self.near, self.far = directory / "near", directory / "far"
        authority = Authority.create(self.near / "ca", passphrase=None)
        self.config = BrokerConfig.create(
            self.far / "broker",
            authority,
            names=["localhost"],
            port=free_port("127.0.0.1"),
            websockets_port=free_port("127.0.0.1") if websockets else None,
        )
        self._devices = {
            one: issued_credentials(directory, authority.issue_device(one))
            for one in ("pump", "lost")
        }

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
        assert main(["revoke", device_id, "--home", str(self.near)], command="ca") == 0
        for name in copied:
            if (self.near / "ca" / name).exists():  # root-crl.pem is not, without an intermediate
                shutil.copy(self.near / "ca" / name, self.config.directory)

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
