"""`broker init --certificate … --key …`: our broker with a certificate of a public CA, as certbot
and lego leave it; devices trust that CA's root beside our own authority.
"""

from __future__ import annotations

import json
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.health import warnings
from securemqtt_tools.broker.trust import device_context
from securemqtt_tools.cli import main
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import Outcome, Provisioner
from support.brokers.mqtt import Peer, Refused
from support.identities.by_openssl import Workshop
from support.identities.programs import says
from support.requirements import require_program
from support.speed import seconds


class Certbot:
    """What certbot keeps for a broker: fullchain.pem, privkey.pem, renewed in their place."""

    def __init__(self, directory: Path) -> None:
        self.workshop = Workshop(directory / "public-ca")
        self.root = self.workshop.ca
        self._intermediate = self.workshop.intermediate("R11")
        self.live = directory / "live"
        self.live.mkdir()
        self.certificate, self.key = self.live / "fullchain.pem", self.live / "privkey.pem"
        self.renew()

    def renew(self) -> None:
        """Get a new certificate for a new key."""
        certificate, key = self.workshop.server("renewed", self._intermediate)
        self.certificate.write_bytes(certificate.read_bytes() + self._intermediate[0].read_bytes())
        self.key.touch(0o600)
        self.key.write_bytes(key.read_bytes())

    @property
    def files(self) -> tuple[str, ...]:
        """The options that name them."""
        return "--certificate", str(self.certificate), "--key", str(self.key)

    def stranger(self) -> tuple[Path, Path]:
        """Make a certificate of the same public CA for somebody else."""
        key = self.workshop.key("stranger")
        return self.workshop.sign("stranger", key, issuer=self._intermediate), key


@pytest.fixture
def certbot(tmp_path: Path) -> Certbot:
    return Certbot(tmp_path)


def broker(provisioner: Provisioner, *arguments: str) -> Outcome:
    """Run `broker` in the home of the provisioner."""
    provisioner._capture.readouterr()
    status = main([*arguments, "--home", str(provisioner.home)], command="broker")
    return Outcome(status, *provisioner._capture.readouterr())


def init(provisioner: Provisioner, certbot: Certbot, *options: str) -> Outcome:
    """Set the broker up with the public certificate, on a free port."""
    return broker(provisioner, "init", "localhost", "--port", "0", *certbot.files, *options)


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
def test_devices_trust_the_public_root_beside_ours_and_only_ours_may_enter(
    engine: str,
    provisioner: Provisioner,
    certbot: Certbot,
    simulated_board: SimulatedBoard,
    tmp_path: Path,
) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    outcome = init(provisioner, certbot, "--root", str(certbot.root))
    assert (outcome.status, outcome.err) == (0, "")
    assert "Somebody's ca" in outcome.out and "securemqtt broker reload" in outcome.out
    directory = provisioner.home / "broker"
    with BrokerProcess(directory, engine=engine) as running:
        port = running.port
        out = tmp_path / "bundle"
        where = f"localhost:{port}"
        done = provisioner.run("pi", f"public-{engine}", "--out", str(out), broker=where)
        assert (done.status, done.err) == (0, "")
        assert len(json.loads((out / "config.json").read_text())["ca"]) == 2
        assert says(out) == "True\n"
        done = provisioner.board(
            simulated_board, f"public-board-{engine}", *provisioner.wifi, broker=where
        )
        assert (done.status, done.err) == (0, ""), done.text
        assert "message acknowledged" in done.out
        # A certificate of the public CA opens nothing.
        context = device_context(certbot.root)
        certificate, key = certbot.stranger()
        context.load_cert_chain(certificate, key)
        with pytest.raises(Refused), Peer(port, context) as stranger:
            stranger.connect("stranger")
        checked = broker(provisioner, "check", "--host", "localhost")
        assert "NO " not in checked.out and "proves who it is" in checked.out, checked.text
        # It is renewed, and taken up.
        before = shown(port, certbot.root)
        certbot.renew()
        BrokerConfig.open(directory).refresh(provisioner.authority)
        running.reload()
        assert shown(port, certbot.root) != before
        assert says(out) == "True\n"


def shown(port: int, root: Path) -> str:
    """Return the certificate that a broker shows, verified."""
    return ssl.get_server_certificate(("localhost", port), ca_certs=str(root), timeout=seconds(20))


def test_the_root_is_found_among_those_that_the_system_trusts(
    provisioner: Provisioner, certbot: Certbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = init(provisioner, certbot)
    assert outcome.said("is not in the CAs that this computer trusts", "--root FILE")
    monkeypatch.setenv("SSL_CERT_FILE", str(certbot.root))
    assert init(provisioner, certbot).status == 0
    held = (provisioner.home / "broker" / "root.pem").read_bytes()
    assert held.strip() == certbot.root.read_bytes().strip()


def test_what_no_device_would_take_is_refused(provisioner: Provisioner, certbot: Certbot) -> None:
    root = ("--root", str(certbot.root))
    names = ("init", "mqtt.example.org", "--port", "0", *certbot.files, *root)
    assert broker(provisioner, *names).said("is not for mqtt.example.org, but for localhost")
    assert broker(provisioner, "init", "localhost", *certbot.files[:2]).said("--key")
    assert broker(provisioner, "init", "localhost", *root).said("--certificate")
    other = certbot.workshop.root("other")[0]
    assert init(provisioner, certbot, "--root", str(other)).said("is not in", str(other))
    certificate, key = certbot.stranger()
    certbot.key.write_bytes(key.read_bytes())
    assert init(provisioner, certbot, *root).said("is not the key of the certificate")
    certbot.certificate.write_bytes(certificate.read_bytes())
    assert init(provisioner, certbot, *root).said("is not in")  # the intermediate is missing
    assert not (provisioner.home / "broker" / "broker.json").exists()


def test_a_certificate_that_cannot_be_read_keeps_no_revocation_from_working(
    provisioner: Provisioner, certbot: Certbot
) -> None:
    assert init(provisioner, certbot, "--root", str(certbot.root)).status == 0
    directory = provisioner.home / "broker"
    revoked = provisioner.authority.issue_device("revoked-public").certificate.serial_number
    provisioner.authority.revoke("revoked-public")
    certbot.key.chmod(0o644)
    shown_before = BrokerConfig.open(directory).server_certificate()
    with BrokerProcess(directory, engine="amqtt"):
        outcome = broker(provisioner, "reload")
    assert outcome.said("is shown as it was", "chmod 600") and "takes it up" in outcome.out
    config = BrokerConfig.open(directory)
    assert config.crl().get_revoked_certificate_by_serial_number(revoked) is not None
    assert config.server_certificate() == shown_before
    certbot.key.chmod(0o600)
    assert broker(provisioner, "reload").status == 0


def test_a_certificate_that_nobody_renews_is_warned_of(
    provisioner: Provisioner, certbot: Certbot
) -> None:
    assert init(provisioner, certbot, "--root", str(certbot.root)).status == 0
    config = BrokerConfig.open(provisioner.home / "broker")
    end = config.server_certificate().not_valid_after_utc
    crl_end = config.crl().next_update_utc
    assert crl_end is not None and crl_end > end
    assert warnings(config, end - timedelta(days=11)) == []
    found = warnings(config, end - timedelta(days=9))
    assert len(found) == 1 and "certbot" in found[0]
