"""Ask a broker once more what it has against this device, on CPython.

A handshake, and then a read that gives the alert. Not a byte of MQTT is sent. Verification is on,
as ever. For what came to an end without a word.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable

from ..diagnosis.finding import Finding
from ..diagnosis.openssl import classify
from ..errors import BrokerFull, ConnectionLost, HandshakeFailed, NotTLS, TimedOut
from ..settings import Settings

# Less than this is not worth beginning: a broker that is full alone may take 300 ms to show it.
_LEAST_MS = 500
# How long a broker that is full has to show it, by closing before we have said anything.
_FULL_S = 0.3
# How long after the handshake a broker may take to say that it does not like our certificate.
_REFUSE_S = 1.5


def probe(
    settings: Settings, context: ssl.SSLContext, peer: tuple[str, int], patience_ms: int
) -> Finding | None:
    """Return what a second handshake shows; ConnectionLost if the broker has nothing against us,
    None if that cannot be seen within `patience_ms`, which is all that it takes.

    `peer` is the address that the first connection was made with, and `context` its own: the files
    are not read, and a `key_password` is not asked, a second time.
    """
    if patience_ms < _LEAST_MS:
        return None
    deadline_s = time.monotonic() + patience_ms / 1000
    try:
        with socket.create_connection(peer, patience_ms / 1000) as raw:
            if select.select([raw], [], [], _FULL_S)[0]:
                return Finding(NotTLS if raw.recv(1, socket.MSG_PEEK) else BrokerFull)
            return _shake_hands(raw, deadline_s, context, settings.host)
    except OSError:
        return Finding(ConnectionLost)


def _shake_hands(
    raw: socket.socket, deadline_s: float, context: ssl.SSLContext, host: str
) -> Finding:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    step: Callable[[], object] = tls.do_handshake
    done = False  # the handshake, by our side of it
    heard = False
    while True:
        try:
            step()
            if done:
                # data, before we have sent any: strange, but nothing against us
                return Finding(ConnectionLost)
            done, step = True, tls.read
            deadline_s = min(deadline_s, time.monotonic() + _REFUSE_S)
        except ssl.SSLWantReadError:
            try:
                data = _exchange(raw, outgoing.read(), deadline_s)
            except TimeoutError:
                return Finding(ConnectionLost if done else TimedOut)
            heard = heard or bool(data)
            incoming.write(data) if data else incoming.write_eof()
        except OSError as error:
            finding = classify(error, "handshake")
            if finding.error is not ConnectionLost:
                return finding
            return Finding(HandshakeFailed, refused=True) if heard else Finding(NotTLS)


def _exchange(raw: socket.socket, data: bytes, deadline_s: float) -> bytes:
    """Send, then receive, nothing from a peer that has closed. Raise TimeoutError."""
    raw.settimeout(max(0.01, deadline_s - time.monotonic()))
    try:
        raw.sendall(data)
    except ConnectionError:
        pass  # the broker has closed; what it said before is still to be read
    try:
        return raw.recv(65536)
    except ConnectionError:
        return b""
