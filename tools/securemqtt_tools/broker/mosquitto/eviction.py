"""Putting single devices out of a running Mosquitto, while all others stay.

On SIGHUP Mosquitto reads a new CRL, and asks it about new connections only. So the session of a
device that was revoked is taken over ([MQTT-3.1.4-2]) by way of a listener of ours: a Unix socket
where a throwaway authority, which is trusted nowhere else, vouches for any id. Its key is never
written to a file, and gone with this process.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.connections import (
    Connections,
    End,
    connections,
    end_of,
    remote_end,
    remote_ports,
)
from securemqtt_tools.broker.mosquitto.log import Log
from securemqtt_tools.broker.mosquitto.program import Door
from securemqtt_tools.broker.trust import undated_context
from securemqtt_tools.pki.files import make_directory, write_file
from securemqtt_tools.pki.keys import generate_key, key_pem
from securemqtt_tools.pki.profiles import DEVICE, Issuer, ca_certificate, leaf_certificate

# Beyond so many, a restart is quicker and takes less.
MOST = 20
_TRUST = "trust.pem"
_SOCKET = "socket"
_CARD = "card.pem"
_LONGEST_PATH = 100  # in bytes; macOS has 104 for a Unix socket, Linux 108
_WAIT_S = 5.0
# With clean session 1, for Mosquitto (2.0.11, 2.0.21, 2.1.2) forgets the will of a kept session
# that another kept one takes over: who was revoked would stay "online" for ever. Which client id is
# asked for is no matter, since it is the certificate's.
_CONNECT = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03out"
_CONNECT_KEPT = _CONNECT.replace(b"\x04\x02", b"\x04\x00")  # with clean session 0
_CONNACK_BYTES = 4
# Behind the time, and nowhere else: a line may have what a client has chosen.
_OPENED = re.compile(rb"\S+: New connection from (\S+) on port ")
_ENTERED = re.compile(rb"\S+: New client connected from (\S+) as (\S+) \(")
# How long Mosquitto waits for CONNECT: one and a half times its default keep-alive of 60 s, and it
# looks every few seconds. Only for a CONNECT of which more than 1000 bytes are missing does it wait
# longer, as long as a few of them come each minute.
_HALF_OPEN_S = 100.0
_DISCONNECT = b"\xe0\x00"


class Watch:
    """Looks in Mosquitto's log for devices that were revoked and come in all the same: they had
    opened their connection, and shown their certificate, before the CRL said so.

    Which connections are that old is asked of the kernel: the log does not tell apart two that come
    from one port, to two addresses of this computer.
    """

    def __init__(self, log: Log, ports: Collection[int]) -> None:
        """Look for nobody yet in the log of a Mosquitto that listens on `ports`."""
        self._log = log
        self._ports = frozenset(ports)
        self._offset = 0
        self._until = time.monotonic()
        self._old: dict[str, Connections | None] = {}
        """Who is looked for, and the connections by which he may come in; None: by any."""

    def begin(self, device_ids: Iterable[str], offset: int) -> None:
        """Look for these, too, from where the log, at `offset`, says that Mosquitto has read the
        CRL. Raise FatalError when the log cannot be read.
        """
        now = self._connections()
        if now is not None:  # who had entered by then was put out, or is somebody else
            now -= _entered_by(now, self._log.before(offset))
        self._old.update(dict.fromkeys(device_ids, now))
        self._offset = offset
        self._until = time.monotonic() + _HALF_OPEN_S

    @property
    def device_ids(self) -> set[str]:
        """Who is looked for."""
        return set(self._old)

    @property
    def left_s(self) -> float:
        """For how long there is somebody to look for, in seconds; negative: nobody any more."""
        return self._until - time.monotonic() if self._old else -1.0

    def is_over(self) -> bool:
        """Return True if there is nobody to look for any more."""
        return self.left_s < 0

    def prolong(self) -> bool | None:
        """Go on for as long again, for those who may come in by a connection that is still there;
        return False if there are none, None if nobody knows.
        """
        now = self._connections()
        known = now is not None and None not in self._old.values()
        if now is not None:
            left = {one: old & now for one, old in self._old.items() if old is not None}
            self._old = {one: old for one, old in left.items() if old}
        else:
            self._old = {}
        self._until = time.monotonic() + _HALF_OPEN_S
        return True if self._old else (False if known else None)

    def entered(self) -> set[str]:
        """Return who of them has come in since the last time. Raise FatalError when the log cannot
        be read any more.
        """
        log = self._log.since(self._offset)
        complete = log[: log.rfind(b"\n") + 1]
        self._offset += len(complete)
        matches = filter(None, map(_ENTERED.match, complete.splitlines()))
        comings = [(one[1], one[2].decode(errors="replace")) for one in matches]
        comings = [one for one in comings if one[1] in self._old]
        now = self._connections() if comings else None
        # A set: whoever writes that log does not decide how long it takes to put him out.
        return {one for address, one in comings if self._is_old(address, self._old[one], now)}

    def _is_old(self, address: bytes, old: Connections | None, now: Connections | None) -> bool:
        """Return True if one of the old connections that are still there may be the one of an
        address and port.
        """
        if address.startswith(b"/"):  # the Unix socket, by which we put out
            return False
        port = address.rpartition(b":")[2]
        if old is None or now is None or not port.isdigit():
            return True
        return int(port) in remote_ports(old & now)

    def _connections(self) -> Connections | None:
        return connections(self._ports) if self._ports else None


def _entered_by(some: Connections, log: bytes) -> Connections:
    """Return those of which a log says that a client has entered by them."""
    opened: Counter[End | None] = Counter()
    entered: set[End | None] = set()
    for line in log.splitlines():
        for pattern, add in ((_OPENED, opened.update), (_ENTERED, entered.update)):
            found = pattern.match(line)
            if found:
                add([end_of(found[1].decode(errors="replace"))])
    # Where one end was used more than once, the log does not say by which of them.
    return frozenset(
        one for one in some if (end := remote_end(one)) in entered and opened[end] == 1
    )


def fits(path: Path) -> bool:
    """Return True if a Unix socket of Mosquitto's can have this path, which may be too long, or
    have a blank: Mosquitto's `listener` ends there.
    """
    return len(os.fsencode(path)) <= _LONGEST_PATH and not any(map(str.isspace, str(path)))


class Authority:
    """A throwaway authority, for the listener at `socket` of one Mosquitto. An object belongs to
    one thread at a time.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        key = generate_key("p256")
        # For as long as the broker runs, and whatever its clock does.
        begin = datetime(2000, 1, 1, tzinfo=timezone.utc)
        end = datetime(2100, 1, 1, tzinfo=timezone.utc)
        # A name of its own: what OpenSSL has once found by a name it looks for no more.
        name = f"eviction {secrets.token_hex(8)}"
        certificate = ca_certificate(name, key.public_key(), 0, begin, end, key)
        self._issuer = Issuer(certificate, key)

    @property
    def certificate(self) -> bytes:
        """Its certificate, as PEM."""
        return self._issuer.certificate.public_bytes(Encoding.PEM)

    @property
    def hashed_name(self) -> str:
        """What OpenSSL calls its certificate's file in a directory of trusted ones (`openssl
        rehash`), where it is found without any reload.
        """
        # X509_NAME_hash: of the name in lower case, which it is, without tag and length.
        name = self._issuer.certificate.subject.public_bytes()[2:]
        digest = hashlib.sha1(name, usedforsecurity=False).digest()
        return f"{int.from_bytes(digest[:4], 'little'):08x}.0"

    def put_out(self, config: BrokerConfig, device_ids: Iterable[str]) -> None:
        """End the connections of these devices, if they have any.

        Takes some milliseconds for each, and at most 20 s where Mosquitto does not answer. Raise
        OSError, FatalError.
        """
        for device_id in device_ids:
            self._enter(config, device_id, _CONNECT)

    def look_in(self, config: BrokerConfig, device_id: str) -> bool:
        """Enter the kept session of a device that is away, and leave it as it is (see away.py):
        what Mosquitto sends meanwhile is not acknowledged, and waits on. Return True if it had one;
        else it has one now. Raise OSError.
        """
        return self._enter(config, device_id, _CONNECT_KEPT)

    def _enter(self, config: BrokerConfig, device_id: str, connect: bytes) -> bool:
        """Connect as a device, and leave; return True if it had a session."""
        context = undated_context(config.server_trust())
        self._show(context, device_id)
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(_WAIT_S)
            plain.connect(str(self.socket))
            with context.wrap_socket(plain, server_hostname=config.names[0]) as tls:
                tls.sendall(connect)
                answer = tls.recv(_CONNACK_BYTES)
                if len(answer) < _CONNACK_BYTES or answer[-1] != 0:
                    raise ConnectionError("Mosquitto does not let us in")
                tls.sendall(_DISCONNECT)
        return bool(answer[2] & 1)

    def _show(self, context: ssl.SSLContext, device_id: str) -> None:
        """Have a certificate of this id shown, which is good for an hour."""
        key = generate_key("p256")
        now = datetime.now(timezone.utc)
        hour = timedelta(hours=1)
        certificate = leaf_certificate(
            DEVICE, device_id, (), key.public_key(), now - hour, now + hour, self._issuer
        )
        with tempfile.TemporaryDirectory(prefix="securemqtt-") as scratch:
            card = Path(scratch) / _CARD
            write_file(card, key_pem(key) + certificate.public_bytes(Encoding.PEM))
            context.load_cert_chain(card)


class Eviction(Authority):
    """The way to put devices out of a Mosquitto of ours, which is started with this `door`."""

    def __init__(self, directory: Path) -> None:
        """Make this directory, in which nothing else may be. Raise FatalError."""
        super().__init__(directory / _SOCKET)
        trust = directory / _TRUST
        self.door = Door(self.socket, f"cafile {trust}")
        make_directory(directory)
        write_file(trust, self.certificate)

    @staticmethod
    def fits(directory: Path) -> bool:
        """Return True if a Unix socket can be in this directory, which is made: its file system may
        have none, as one that is shared with another computer.
        """
        path = directory / _SOCKET
        if not fits(path):
            return False
        make_directory(directory)
        path.unlink(missing_ok=True)
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(str(path))
        except OSError:
            return False
        path.unlink()
        return True
