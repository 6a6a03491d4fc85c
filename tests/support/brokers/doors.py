"""A way into a broker: one engine, one transport.

The same security tests go through each of them.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from securemqtt_tools.pki import Authority
from support.brokers.hivemq import hivemq_installed
from support.brokers.mqtt import Peer, client_context
from support.identities.credentials import Credentials, issued_credentials

_numbers = itertools.count()


class Door:
    """A running broker, its authority, and whether one enters by WebSockets."""

    def __init__(
        self,
        broker: BrokerProcess,
        authority: Authority,
        directory: Path,
        websockets: bool = False,
    ) -> None:
        self.broker = broker
        self.authority = authority
        self.directory = directory
        self.websockets = websockets

    @property
    def port(self) -> int:
        """The port of this transport."""
        port = self.broker.websockets_port if self.websockets else self.broker.port
        assert port is not None
        return port

    @property
    def tells_certificates_apart(self) -> bool:
        """Whether a newer certificate of a revoked id is let in; Mosquitto before 2.1 takes no
        notice of a CRL on WebSockets, and there the id is shut out.
        """
        return not self.restarts_for_revocation

    @property
    def restarts_for_revocation(self) -> bool:
        """Whether a revocation takes a restart, at which all connections end: Mosquitto before 2.1
        with WebSockets.
        """
        if not self.websockets or self.broker.engine != "mosquitto":
            return False
        program = find_mosquitto()
        return program is None or program.version < (2, 1, 0)

    @property
    def ca(self) -> Path:
        """The file with the trust anchor that proves the broker."""
        return self.broker.directory / "ca.pem"

    def new_id(self, name: str = "device") -> str:
        """Return an id that no other test uses."""
        return f"{name}-{next(_numbers)}"

    def credentials(self, device_id: str) -> Credentials:
        """Issue a certificate and write it to files."""
        return issued_credentials(
            self.directory, self.authority.issue_device(device_id, renew=True)
        )

    def context(self, credentials: Credentials | None) -> ssl.SSLContext:
        """Make the TLS context of a client."""
        return client_context(self.ca, credentials)

    def peer(self, credentials: Credentials | None, session: ssl.SSLSession | None = None) -> Peer:
        """Open a connection, without the MQTT CONNECT; `Refused` when the broker refuses it at
        once.
        """
        return Peer(
            self.port, self.context(credentials), websockets=self.websockets, session=session
        )

    def revoke(self, device_id: str) -> None:
        """Revoke the certificates of a device and have the broker take notice."""
        self.authority.revoke(device_id)
        self.update()

    def update(self) -> None:
        """Have the broker take notice of what was revoked."""
        self.broker.config.refresh(self.authority)
        self.broker.reload()

    def enter(self, device_id: str, credentials: Credentials | None = None) -> Peer:
        """Connect as a device, with its own certificate unless another is given."""
        peer = self.peer(credentials or self.credentials(device_id))
        try:
            peer.connect(device_id)
        except BaseException:
            peer.drop()
            raise
        return peer


@contextmanager
def open_door(
    authority: Authority,
    directory: Path,
    engine: str,
    websockets: bool = False,
    passwords: bool = False,
) -> Iterator[Door]:
    """Set up a broker of its own on loopback, run it, and end it."""
    BrokerConfig.create(
        directory / "broker",
        authority,
        names=["localhost", "127.0.0.1"],
        port=0,
        websockets_port=0 if websockets else None,
        passwords=passwords,
        roles={"controller": "operator", "watcher": "monitor"},
    )
    with ExitStack() as stack:
        if engine == "hivemq":
            stack.enter_context(hivemq_installed())
        broker = stack.enter_context(BrokerProcess(directory / "broker", engine=engine))
        yield Door(broker, authority, directory, websockets)
