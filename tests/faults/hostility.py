"""What a hostile or broken broker does on a connection, once the handshake is done."""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.pki import Authority
from support.brokers.servers import server_context, tcp_server
from support.identities.credentials import issued_credentials
from support.models.packet_streams import packet, publish

Serve = Callable[[socket.socket], None]
CONNACK = b"\x20\x02\0\0"
# Server unavailable: a refusal that time alone can cure.
UNAVAILABLE = b"\x20\x02\0\x03"
# A PUBLISH of the largest length there is.
LARGEST = b"\x30\xff\xff\xff\x7f\0\1t"
PINGRESP = packet(0xD0, b"")
# Acknowledgements of each kind, of what no device here has sent.
UNASKED = b"".join(packet(kind, b"\x7f\x7f") for kind in (0x40, 0x50, 0x62, 0x70, 0xB0))
FLOOD = publish(b"t", bytes(123)) * 128
PIECE_S = 0.02


def until_gone(connection: socket.socket) -> None:
    """Read until the device has closed."""
    while connection.recv(4096):
        pass


def trickle(connection: socket.socket, data: bytes, pause_s: float = PIECE_S) -> None:
    """Send one byte at a time, each in a record of its own."""
    for n in range(len(data)):
        connection.sendall(data[n : n + 1])
        time.sleep(pause_s)


def after(first: bytes, then: Serve = until_gone, *, close: bool = False) -> Serve:
    """Take CONNECT, send `first`, and go on with `then`, or close."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(first)
        if not close:
            then(connection)

    return serve


def garbage(connection: socket.socket) -> None:
    """Send noise that cannot begin a packet after a moment, then wait."""
    connection.sendall(b"\xff" + random.Random(7).randbytes(3000))
    until_gone(connection)


def answer_pings(connection: socket.socket) -> None:
    """Keep the connection alive, and acknowledge nothing."""
    while connection.recv(4096):
        connection.sendall(PINGRESP)


def stream(*pieces: bytes, times: int) -> Serve:
    """Send the same again and again, as fast as the device takes it; then answer its pings, and say
    `end` until it has room to hear it.
    """

    def serve(connection: socket.socket) -> None:
        for _ in range(times):
            for piece in pieces:
                connection.sendall(piece)
        said = b"-"
        patience_s = connection.gettimeout()
        while said:
            connection.sendall(publish(b"end", b"the end"))
            connection.settimeout(PIECE_S)
            try:
                said = connection.recv(4096)
            except TimeoutError:
                continue
            finally:
                # a device that is busy with all this may leave no room for longer
                connection.settimeout(patience_s)
            connection.sendall(PINGRESP)

    return serve


@contextmanager
def hostile_broker(context: ssl.SSLContext, serve: Serve) -> Iterator[int]:
    """Have a broker serve what comes, one connection after another, once its handshake is done;
    gives the port.
    """

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            serve(tls)

    with tcp_server(secured) as port:
        yield port


def hostile_context(directory: Path, authority: Authority) -> ssl.SSLContext:
    """Make the TLS context of a broker with a good certificate; its files go into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    own = issued_credentials(
        directory, authority.issue_server(["hostile.example", "localhost"], renew=True)
    )
    ca = directory / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    return server_context(own, ca)
