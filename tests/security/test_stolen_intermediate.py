"""The intermediate's key was stolen: once it is replaced, nothing that it has issued, or that its
thief issues, opens a broker.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.keys import generate_key, key_pem, load_key
from securemqtt_tools.pki.layout import replace_intermediate
from securemqtt_tools.pki.profiles import DEVICE, Issuer, leaf_certificate
from support.brokers.doors import Door, open_door
from support.brokers.hivemq import require_hivemq
from support.brokers.mqtt import WAIT_S, Refused
from support.identities.credentials import client_certificate, signer_of, write_credentials
from support.network.tls import TlsConnection
from support.packets import CONNECT, field, packet
from support.requirements import require_program
from support.speed import seconds

HIVEMQ = pytest.param("hivemq", marks=pytest.mark.brokers)


@pytest.fixture(params=["mosquitto", "mosquitto-wss", "amqtt", "amqtt-wss", HIVEMQ])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    """Run a broker whose authority has an intermediate; enter by each transport."""
    engine, _, websockets = request.param.partition("-")
    if engine == "mosquitto":
        require_program("mosquitto")
    if engine == "hivemq":
        require_hivemq()
    own = Authority.create(tmp_path / "home" / "ca", passphrase=None, intermediate=True)
    with open_door(own, tmp_path / "home", engine, websockets=bool(websockets)) as opened:
        yield opened


def test_the_thief_is_out_and_provisioned_devices_are_in(
    door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, home = door.authority, tmp_path / "home"
    assert own.intermediate is not None
    signer = Issuer(
        own.intermediate, load_key(own.directory / "intermediate.key", own.intermediate, None)
    )
    before = door.credentials("pump")
    door.enter("pump", before).drop()
    key = generate_key("p256")
    begin, end = own.now - timedelta(hours=1), own.now + timedelta(days=1)
    forged = leaf_certificate(DEVICE, "controller", (), key.public_key(), begin, end, signer)
    chain = certificate_pem(forged) + certificate_pem(signer.certificate)
    thief = write_credentials(tmp_path / "thief", chain, key_pem(key))
    door.enter("controller", thief).drop()  # what a stolen key is good for
    root_key = own.directory / "root.key"
    offline = root_key.rename(tmp_path / "offline.key")
    arguments = ["replace-intermediate", "--root-key", str(offline), "--home", str(home)]
    assert main(arguments, command="ca") == 0
    assert "until then brokers refuse it" in capsys.readouterr().out
    door.authority = Authority.open(own.directory)
    live = door.peer(thief)
    live.connect("controller", keep_alive_s=3600)  # so that nothing else ends it
    door.update()
    live.wait_closed()
    for device_id, credentials in (("controller", thief), ("pump", before)):
        with pytest.raises(Refused):
            door.enter(device_id, credentials)
    door.enter("pump").drop()
    config = BrokerConfig.open(door.broker.directory)
    assert config.server_certificate().issuer == door.authority.issuing_certificate.subject


@pytest.mark.parametrize("engine", ["amqtt", "amqtt-wss", HIVEMQ])
def test_another_authority_of_the_same_name_is_another(tmp_path: Path, engine: str) -> None:
    """Made since the first one's key was stolen."""
    engine, _, websockets = engine.partition("-")
    if engine == "hivemq":
        require_hivemq()
    stolen, own = (
        Authority.create(tmp_path / one / "ca", passphrase=None, name="farm")
        for one in ("stolen", "own")
    )
    with open_door(stolen, tmp_path, engine, websockets=bool(websockets)) as door:
        before = door.credentials("pump")
        with door.enter("pump", before) as live:
            door.authority = own
            own.crl_pem()
            door.broker.config.renew_certificate(own)
            door.update()
            live.wait_closed()
        with pytest.raises(Refused):
            door.enter("pump", before)
        for names_key in (True, False):  # what does not say whose it is may be anybody's
            made = client_certificate(tmp_path, signer_of(own), ["pump"], names_key=names_key)
            with nullcontext() if names_key else pytest.raises(Refused):
                door.enter("pump", made).drop()


class HoldingSocket(socket.socket):
    """Keeps back what is sent after the first packet, until it is let go."""

    held: bytes | None = None

    def sendall(self, data: bytes) -> None:
        if self.held is None:
            super().sendall(data)
            self.held = b""
        else:
            self.held += data

    def let_go(self) -> None:
        """Send what was kept back."""
        super().sendall(self.held or b"")
        self.held = b""


def test_a_handshake_that_outlasts_the_reload_opens_nothing(tmp_path: Path) -> None:
    own = Authority.create(tmp_path / "home" / "ca", passphrase=None, intermediate=True)
    with open_door(own, tmp_path / "home", "amqtt") as door, HoldingSocket() as plain:
        plain.settimeout(WAIT_S)
        plain.connect(("127.0.0.1", door.port))
        context = door.context(door.credentials("pump"))
        tls = TlsConnection(plain, context, server_hostname="localhost")
        assert tls.version() == "TLSv1.3"  # so the broker has not seen its certificate yet
        replace_intermediate(own.directory, None, None, own.now)
        door.authority = Authority.open(own.directory)
        door.authority.crl_pem()
        door.update()
        tls.sendall(packet(CONNECT, field("MQTT") + bytes([4, 2, 0, 60]) + field("pump")))
        plain.let_go()
        assert tls.recv(100) == b""
        assert "refused pump from 127.0.0.1" in door.broker.log.read_text()
        door.enter("pump").drop()


def test_whoever_checks_all_crls_learns_of_it(tmp_path: Path) -> None:
    own = Authority.create(tmp_path / "ca", passphrase=None, intermediate=True)
    issued = own.issue_device("pump")
    crl = own.crl_pem()
    (tmp_path / "leaf.pem").write_bytes(issued.certificate_pem())
    (tmp_path / "chain.pem").write_bytes(issued.chain_pem())

    def verify() -> str:
        (tmp_path / "crls.pem").write_bytes(crl + (own.directory / "root-crl.pem").read_bytes())
        done = subprocess.run(
            [
                *(require_program("openssl"), "verify", "-crl_check_all"),
                *("-CRLfile", tmp_path / "crls.pem", "-CAfile", own.directory / "root.crt"),
                *("-untrusted", tmp_path / "chain.pem", tmp_path / "leaf.pem"),
            ],
            capture_output=True,
            text=True,
            timeout=seconds(30),
            check=False,
        )
        return "" if done.returncode == 0 else done.stderr

    assert verify() == ""
    replace_intermediate(own.directory, None, None, own.now)
    assert "certificate revoked" in verify()
    again = Authority.open(own.directory)
    assert [one.state for one in again.inventory.entries("intermediate")] == ["revoked", "issued"]
    assert [one.state for one in again.find("pump")] == ["superseded"]
    assert len(x509.load_pem_x509_crl(again.crl_pem())) == 0
    again.issue_device("pump")


def test_each_has_a_name_of_its_own(tmp_path: Path) -> None:
    """By which brokers tell them apart, also when one follows another within a second."""
    own = Authority.create(tmp_path / "ca", passphrase=None, name="n" * 50, intermediate=True)
    made = [replace_intermediate(own.directory, None, None, own.now) for _ in range(2)]
    assert len({one.subject for one in made}) == 2


def test_a_root_that_signs_itself_is_not_replaced(tmp_path: Path) -> None:
    own = Authority.create(tmp_path / "ca", passphrase=None)
    with pytest.raises(FatalError, match="has no intermediate"):
        replace_intermediate(own.directory, None, None, own.now)


def test_the_new_key_has_the_passphrase_of_the_roots(tmp_path: Path) -> None:
    secret = b"correct horse battery"
    own = Authority.create(tmp_path / "ca", passphrase=secret, intermediate=True)
    replace_intermediate(own.directory, None, lambda: secret, own.now)
    assert b"ENCRYPTED" in (own.directory / "intermediate.key").read_bytes()
    Authority.open(own.directory, secret).issue_device("pump")
