"""What a hostile or broken broker does on a connection, once the handshake is done."""

from __future__ import annotations

import random
import socket
import time

from support.brokers.servers import Serve, until_gone
from support.packets import (
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    UNSUBACK,
    answer,
    packet,
    publish,
)

# Server unavailable: a refusal that time alone can cure.
UNAVAILABLE = b"\x20\x02\0\x03"
# A PUBLISH of the largest length there is.
LARGEST = b"\x30\xff\xff\xff\x7f\0\1t"
# Acknowledgements of each kind, of what no device here has sent.
UNASKED = b"".join(answer(kind, 0x7F7F) for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK))
FLOOD = publish(b"t", bytes(123)) * 128
PIECE_S = 0.02


def trickle(connection: socket.socket, data: bytes, pause_s: float = PIECE_S) -> None:
    """Send one byte at a time, each in a record of its own."""
    for n in range(len(data)):
        connection.sendall(data[n : n + 1])
        time.sleep(pause_s)  # waits for nothing: to be slow is what this broker does


def garbage(connection: socket.socket) -> None:
    """Send noise that cannot begin a packet after a moment, then wait."""
    connection.sendall(b"\xff" + random.Random(7).randbytes(3000))
    until_gone(connection)


def answer_pings(connection: socket.socket) -> None:
    """Keep the connection alive, and acknowledge nothing."""
    while connection.recv(4096):
        connection.sendall(packet(PINGRESP))


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
            connection.sendall(packet(PINGRESP))

    return serve
