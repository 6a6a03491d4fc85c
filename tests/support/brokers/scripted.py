"""A broker that does what a test says, packet by packet, over real mutual TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from securemqtt_tools.pki import Authority
from support.brokers.servers import broker_context
from support.packets import CONNACK, CONNECT, Packet, packet, take_packets
from support.speed import seconds

WAIT_S = seconds(20)


class Connection:
    """One device's connection, from the broker's side."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.tls = sock
        self._buffer = bytearray()
        self._packets: list[Packet] = []

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.tls.close()

    def read(self, timeout_s: float = WAIT_S) -> Packet:
        """Read one packet; EOFError when the device has gone, TimeoutError when nothing comes."""
        self.tls.settimeout(timeout_s)
        while not self._packets:
            part = self.tls.recv(65536)
            if not part:
                raise EOFError
            self._buffer += part
            self._packets += take_packets(self._buffer)
        return self._packets.pop(0)

    def expect(self, kind: int) -> Packet:
        """Read one packet that must be of this kind."""
        got = self.read()
        assert got.kind == kind, f"{kind:#x} was expected, {got} came"
        return got

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.tls.sendall(data)

    def accept(self, *, session_present: bool = False) -> Packet:
        """Take CONNECT and answer that all is well; return CONNECT."""
        connect = self.expect(CONNECT)
        self.send(packet(CONNACK, bytes([session_present, 0])))
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


class ScriptedBroker:
    """Listens on a free port of loopback; `connection` waits for the next device."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.context = broker_context(directory, authority)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> ScriptedBroker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def connection(self) -> Connection:
        """Wait for a device and do the handshake; TimeoutError when none comes."""
        return Connection(self.context.wrap_socket(self.raw(), server_side=True))

    def raw(self) -> socket.socket:
        """Wait for a device and return its TCP connection, with no handshake done."""
        sock, _ = self._listener.accept()
        sock.settimeout(WAIT_S)
        return sock
