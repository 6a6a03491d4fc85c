"""Ask a broker once more what it has against this device: a handshake, and then a read that gives
the alert.

Not a byte of MQTT is sent. Verification is on, as ever. For what came to an end without a word;
CPython's part of the diagnosis.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from typing import Any

from .faults_openssl import classify
from .tls_openssl import make_context

_PROBE_S = 5.0
# How long a broker that is full has to show it, by closing before we have said anything.
_FULL_S = 0.3
# How long after the handshake a broker may take to say that it does not like our certificate.
_REFUSE_S = 1.5


def probe(settings: dict[str, Any]) -> tuple[str, int | None]:
    """Return the kind of fault (see diagnose.py) and the alert: "alert", "dropped" (closed without
    one), "closed" for nothing against us, …
    """
    deadline_s = time.monotonic() + _PROBE_S
    try:
        with socket.create_connection((settings["host"], settings["port"]), _PROBE_S) as raw:
            if select.select([raw], [], [], _FULL_S)[0]:
                return ("plain" if raw.recv(1, socket.MSG_PEEK) else "full"), None
            return _shake_hands(raw, deadline_s, settings)
    except OSError:
        return "closed", None


def _shake_hands(
    raw: socket.socket, deadline_s: float, settings: dict[str, Any]
) -> tuple[str, int | None]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = make_context(settings).wrap_bio(incoming, outgoing, server_hostname=settings["host"])
    step: Any = tls.do_handshake
    heard = False
    while True:
        try:
            step()
            if step == tls.read:
                # data, before we have sent any: strange, but nothing against us
                return "closed", None
            step, deadline_s = tls.read, time.monotonic() + _REFUSE_S
        except ssl.SSLWantReadError:
            try:
                data = _exchange(raw, outgoing.read(), deadline_s)
            except TimeoutError:
                return ("closed" if step == tls.read else "silent"), None
            heard = heard or bool(data)
            incoming.write(data) if data else incoming.write_eof()
        except OSError as error:
            kind, _, alert = classify(error, "handshake")
            if kind == "closed":
                kind = "dropped" if heard else "plain"
            return kind, alert


def _exchange(raw: socket.socket, data: bytes, deadline_s: float) -> bytes:
    """Send, then receive; nothing for a peer that has closed. TimeoutError at the deadline."""
    raw.settimeout(max(0.01, deadline_s - time.monotonic()))
    try:
        raw.sendall(data)
    except ConnectionError:
        pass  # the broker has closed; what it said before is still to be read
    try:
        return raw.recv(65536)
    except ConnectionError:
        return b""
