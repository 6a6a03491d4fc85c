"""A broker that does what a test says, packet by packet, over real mutual TLS."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.pki import Authority
from support.identities.credentials import issued_credentials
from support.speed import seconds

CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, UNSUBSCRIBE, PINGREQ, DISCONNECT = 0x82, 0x90, 0xA2, 0xC0, 0xE0
WAIT_S = seconds(20)


@dataclass(frozen=True)
class Packet:
    """A packet as it came: its first byte, and what follows its length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The first byte, for a PUBLISH without its flags."""
        return PUBLISH if self.first & 0xF0 == PUBLISH else self.first

    @property
    def dup(self) -> bool:
        return bool(self.first & 8)

    @property
    def qos(self) -> int:
        return self.first >> 1 & 3

    @property
    def topic(self) -> str:
        """The topic of a PUBLISH."""
        return self.body[2 : 2 + struct.unpack_from("!H", self.body)[0]].decode()

    @property
    def packet_id(self) -> int:
        """The packet id, wherever this kind has it."""
        at = 2 + struct.unpack_from("!H", self.body)[0] if self.kind == PUBLISH else 0
        value: int = struct.unpack_from("!H", self.body, at)[0]
        return value

    @property
    def payload(self) -> bytes:
        """The payload of a PUBLISH."""
        return self.body[2 + len(self.topic.encode()) + (2 if self.qos else 0) :]


def packet(first: int, body: bytes = b"") -> bytes:
    """Put a packet together."""
    head = bytearray([first])
    length = len(body)
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def answer(first: int, packet_id: int, rest: bytes = b"") -> bytes:
    """Put a packet together that begins with a packet id."""
    return packet(first, struct.pack("!H", packet_id) + rest)


def publish(
    topic: str,
    payload: bytes,
    qos: int = 0,
    packet_id: int = 0,
    *,
    dup: bool = False,
    retain: bool = False,
) -> bytes:
    """Put a PUBLISH together."""
    body = struct.pack("!H", len(topic.encode())) + topic.encode()
    if qos:
        body += struct.pack("!H", packet_id)
    return packet(PUBLISH | dup << 3 | qos << 1 | retain, body + payload)


class Connection:
    """One device's connection, from the broker's side."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._socket = sock

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def read(self, timeout_s: float = WAIT_S) -> Packet:
        """Read one packet; EOFError when the device has gone, TimeoutError when nothing comes."""
        self._socket.settimeout(timeout_s)
        first = self._read(1)[0]
        length = shift = 0
        while True:
            digit = self._read(1)[0]
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return Packet(first, self._read(length))

    def expect(self, kind: int) -> Packet:
        """Read one packet that must be of this kind."""
        got = self.read()
        assert got.kind == kind, f"{kind:#x} was expected, {got} came"
        return got

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def accept(self, *, session_present: bool = False) -> Packet:
        """Take CONNECT and answer that all is well; return CONNECT."""
        connect = self.expect(CONNECT)
        self.send(packet(0x20, bytes([session_present, 0])))
        return connect

    def gone(self) -> bool:
        """Wait until the device closes; false when it does not."""
        try:
            while True:
                self.read()
        except TimeoutError:
            return False
        except (EOFError, OSError):
            return True

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data


class ScriptedBroker:
    """Listens on a free port of loopback; `connection` waits for the next device."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        server = issued_credentials(
            directory, authority.issue_server(["localhost", "127.0.0.1"], renew=True)
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(server.certificate, server.key)
        for anchor in authority.trust_anchors():
            self.context.load_verify_locations(cadata=anchor.public_bytes(Encoding.DER))
        self.context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> ScriptedBroker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()

    def connection(self) -> Connection:
        """Wait for a device and do the handshake; TimeoutError when none comes."""
        sock, _ = self._listener.accept()
        sock.settimeout(WAIT_S)
        return Connection(self.context.wrap_socket(sock, server_side=True))

    def raw(self) -> socket.socket:
        """Wait for a device and return its TCP connection, with no handshake done."""
        sock, _ = self._listener.accept()
        sock.settimeout(WAIT_S)
        return sock
