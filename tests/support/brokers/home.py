"""A home with an authority and a broker, and the host commands run in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from support.brokers.command import broker_run
from support.brokers.mqtt import Peer, Refused, client_context
from support.identities.credentials import Credentials, issued_credentials
from support.requirements import require_program


class Home:
    """Such a home; its keys are not encrypted, and the broker has a free port of its own."""

    def __init__(
        self,
        directory: Path,
        capture: pytest.CaptureFixture[str],
        *,
        intermediate: bool = False,
        broker: bool = True,
    ) -> None:
        self.directory = directory
        self.port = free_port("127.0.0.1")
        self._capture = capture
        Authority.create(self.ca, passphrase=None, intermediate=intermediate)
        if broker:
            self.good("broker", "init", "localhost", "--port", str(self.port))

    @property
    def ca(self) -> Path:
        return self.directory / "ca"

    @property
    def broker(self) -> Path:
        return self.directory / "broker"

    @property
    def crl(self) -> Path:
        """The file of the broker's CRL."""
        return self.broker / "crl.pem"

    @property
    def authority(self) -> Authority:
        return Authority.open(self.ca)

    def read_crl(self) -> x509.CertificateRevocationList:
        """Return the broker's CRL."""
        return x509.load_pem_x509_crl(self.crl.read_bytes())

    def intermediate(self) -> x509.Certificate:
        """Return the authority's intermediate."""
        return x509.load_pem_x509_certificate((self.ca / "intermediate.crt").read_bytes())

    def credentials(self, device_id: str) -> Credentials:
        """Issue a certificate, as the provisioning does, and write it where a device has it."""
        issued = self.authority.issue_device(device_id)
        return issued_credentials(self.directory.parent / "devices", issued)

    def running(self) -> AbstractContextManager[object]:
        """Run the broker, Mosquitto, for a block."""
        require_program("mosquitto")
        return broker_run(self.directory, "--engine", "mosquitto")

    def run(self, command: str, *arguments: str | Path) -> tuple[int, str, str]:
        """Run a command; return its exit status, what it printed, and what it complained about."""
        status = main([*map(str, arguments), "--home", str(self.directory)], command=command)
        printed = self._capture.readouterr()
        return status, printed.out, printed.err

    def good(self, command: str, *arguments: str | Path) -> str:
        """Run a command, which must succeed without a warning; return what it printed."""
        status, out, err = self.run(command, *arguments)
        assert (status, err) == (0, "")
        return out

    def bad(self, command: str, *arguments: str | Path) -> str:
        """Run a command, which must fail with one line on stderr; return that line."""
        status, _, err = self.run(command, *arguments)
        assert (status, err.count("\n")) == (1, 1), err
        return err

    def warned(self, command: str, *arguments: str | Path) -> str:
        """Run a command, which must succeed with one warning; return that."""
        status, _, err = self.run(command, *arguments)
        assert (status, err.count("\n")) == (0, 1), err
        return err

    def lets_in(self, device_id: str, credentials: Credentials) -> bool:
        """Say whether the running broker takes a device."""
        try:
            with Peer(self.port, client_context(self.broker / "ca.pem", credentials)) as peer:
                peer.connect(device_id)
        except Refused:
            return False
        return True
