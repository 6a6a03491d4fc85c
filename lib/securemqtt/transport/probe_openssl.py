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
from ..tls.openssl import make_context

_PROBE_S = 5.0
# How long a broker that is full has to show it, by closing before we have said anything.
_FULL_S = 0.3
# How long after the handshake a broker may take to say that it does not like our certificate.
_REFUSE_S = 1.5


def probe(settings: Settings) -> Finding:
    """Return what a second handshake shows; ConnectionLost if the broker has nothing against us.

    Takes 5 s at most, name resolution aside. Raise BundleError if a file is gone meanwhile.
    """
    deadline_s = time.monotonic() + _PROBE_S
    try:
        with socket.create_connection((settings.host, settings.port), _PROBE_S) as raw:
            if select.select([raw], [], [], _FULL_S)[0]:
                return Finding(NotTLS if raw.recv(1, socket.MSG_PEEK) else BrokerFull)
            return _shake_hands(raw, deadline_s, settings)
    except OSError:
        return Finding(ConnectionLost)


def _shake_hands(raw: socket.socket, deadline_s: float, settings: Settings) -> Finding:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = make_context(settings).wrap_bio(incoming, outgoing, server_hostname=settings.host)
    step: Callable[[], object] = tls.do_handshake
    done = False  # the handshake, by our side of it
    heard = False
    while True:
        try:
            step()
            if done:
                # data, before we have sent any: strange, but nothing against us
                return Finding(ConnectionLost)
            done, step, deadline_s = True, tls.read, time.monotonic() + _REFUSE_S
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
