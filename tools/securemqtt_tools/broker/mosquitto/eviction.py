"""Putting single devices out of a running Mosquitto, while all others stay.

On SIGHUP Mosquitto reads a new CRL, and asks it about new connections only. So the session of a
device that was revoked is taken over ([MQTT-3.1.4-2]) by way of a listener of ours: a Unix socket
in a directory that nobody else may enter, where a throwaway authority, which is trusted nowhere
else, vouches for any id. Its key is never written to a file, and gone with this process.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.trust import device_context
from securemqtt_tools.pki.files import make_directory, write_file
from securemqtt_tools.pki.keys import generate_key, key_pem
from securemqtt_tools.pki.profiles import DEVICE, Issuer, ca_certificate, leaf_certificate

_TRUST = "trust.pem"
_SOCKET = "socket"
_CARD = "card.pem"
_WAIT_S = 5.0
# The session stays as it is (clean session 0), for the device may get a new certificate; which
# client id is asked for is no matter, since it is the certificate's.
_CONNECT = b"\x10\x0f\x00\x04MQTT\x04\x00\x00\x3c\x00\x03out"
_CONNACK_BYTES = 4
# Behind the time, and nowhere else: a line may have what a client has chosen.
_OPENED = re.compile(rb"\S+: New connection from (\S+) on port")
_ENTERED = re.compile(rb"\S+: New client connected from (\S+) as (\S+) \(")
# How long Mosquitto waits for CONNECT: one and a half times its default keep-alive of 60 s, and it
# looks every few seconds.
_HALF_OPEN_S = 100.0
_DISCONNECT = b"\xe0\x00"


class Watch:
    """Looks in Mosquitto's log for devices that were revoked and come in all the same: they had
    opened their connection, and shown their certificate, before the CRL said so.
    """

    def __init__(self, device_ids: Iterable[str], offset: int, before: Watch | None = None) -> None:
        """Begin where the log, at `offset`, says that Mosquitto has read the CRL; `before` goes on
        in this one.
        """
        until = time.monotonic() + _HALF_OPEN_S
        self.offset = offset
        self.until = dict.fromkeys(device_ids, until)
        """Until when each is looked for."""
        self._checked: set[bytes] = set()
        """The addresses of connections that were opened since."""
        if before is not None:
            self.until = {**before.until, **self.until}

    def is_over(self) -> bool:
        """Return True if there is nobody to look for any more."""
        return max(self.until.values()) < time.monotonic()

    def entered(self, log: bytes) -> list[str]:
        """Return who of them has come in, as the log says from `offset` on."""
        complete = log[: log.rfind(b"\n") + 1]
        self.offset += len(complete)
        found = []
        for line in complete.splitlines():
            opened = _OPENED.match(line)
            if opened is not None:
                self._checked.add(opened[1])
            entered = _ENTERED.match(line)
            if entered is not None and entered[1] not in self._checked:
                device_id = entered[2].decode(errors="replace")
                found += [device_id] if device_id in self.until else []
        return found


class Eviction:
    """The way to put devices out of one Mosquitto process, which was started with `trust` and
    `socket`. An object belongs to one thread at a time.
    """

    def __init__(self, directory: Path) -> None:
        """Make this directory, in which nothing else may be. Raise FatalError."""
        self._directory = directory
        key = generate_key("p256")
        # For as long as the broker runs, and whatever its clock does.
        begin = datetime(2000, 1, 1, tzinfo=timezone.utc)
        end = datetime(2100, 1, 1, tzinfo=timezone.utc)
        certificate = ca_certificate("eviction", key.public_key(), 0, begin, end, key)
        self._issuer = Issuer(certificate, key)
        make_directory(directory)
        write_file(self.trust, certificate.public_bytes(Encoding.PEM))

    @staticmethod
    def fits(directory: Path) -> bool:
        """Return True if a Unix socket can be in this directory: its name may be too long, or the
        file system have none, as one that is shared with another computer.
        """
        path = directory / _SOCKET
        make_directory(directory)
        path.unlink(missing_ok=True)
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(str(path))
        except OSError:
            return False
        path.unlink()
        return True

    @property
    def trust(self) -> Path:
        """The file with the authority of this listener."""
        return self._directory / _TRUST

    @property
    def socket(self) -> Path:
        """The path of this listener."""
        return self._directory / _SOCKET

    def put_out(self, config: BrokerConfig, device_ids: Iterable[str]) -> None:
        """End the connections of these devices, if they have any.

        Takes some milliseconds for each, and at most 20 s where Mosquitto does not answer. Raise
        OSError, FatalError.
        """
        for device_id in device_ids:
            context = device_context(config.server_trust())
            self._show(context, device_id)
            with socket.socket(socket.AF_UNIX) as plain:
                plain.settimeout(_WAIT_S)
                plain.connect(str(self.socket))
                with context.wrap_socket(plain, server_hostname=config.names[0]) as tls:
                    tls.sendall(_CONNECT)
                    answer = tls.recv(_CONNACK_BYTES)
                    if len(answer) < _CONNACK_BYTES or answer[-1] != 0:
                        raise ConnectionError("Mosquitto does not let us in")
                    tls.sendall(_DISCONNECT)

    def _show(self, context: ssl.SSLContext, device_id: str) -> None:
        """Have a certificate of this id shown, which is good for an hour."""
        key = generate_key("p256")
        now = datetime.now(timezone.utc)
        hour = timedelta(hours=1)
        certificate = leaf_certificate(
            DEVICE, device_id, (), key.public_key(), now - hour, now + hour, self._issuer
        )
        card = self._directory / _CARD
        try:
            write_file(card, key_pem(key) + certificate.public_bytes(Encoding.PEM))
            context.load_cert_chain(card)
        finally:
            card.unlink(missing_ok=True)
