"""Ask a broker once more what it has against this device, on MicroPython.

A handshake whose alert is read off the wire, since mbedTLS keeps it to itself. Not a byte of MQTT
is sent. Verification is on, as ever. For a handshake that failed.
"""

import gc
import io
import select

from ..diagnosis.finding import Finding
from ..errors import BrokerFull, ConnectionLost, HandshakeFailed, NotTLS, TimedOut, TLSVersionTooOld
from ..platform import const, now_ms, temporary

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

    from ..diagnosis.finding import Stage
    from ..settings import Settings

# Less than this is not worth beginning: a broker that is full alone may take 300 ms to show it.
_LEAST_MS = const(500)
# How long a broker that is full has to show it, by closing before we have said anything.
_FULL_MS = const(300)
_STEP_MS = const(20)
# TLS 1.2 is 3.3 on the wire.
_TLS12_MINOR = const(3)
_HANDSHAKE_FAILURE = const(40)
_CHANGE_CIPHER_SPEC = b"\x14\x03\x03\0\x01\x01"


class _Wire(io.IOBase):
    """The socket under mbedTLS: remembers the end of what came, and reads where a write failed."""

    def __init__(self, raw: "Any") -> None:
        self._raw = raw
        self.last = b""
        self.accepted = False
        self.ended = False

    def readinto(self, buffer: "Any") -> "int | None":
        try:
            count: "int | None" = self._raw.readinto(buffer)
        except OSError:
            count = 0
        if count:
            self.last = (self.last + bytes(buffer[:count]))[-7:]
            # The broker is content with our certificate.
            self.accepted = self.accepted or self.last[-6:] == _CHANGE_CIPHER_SPEC
        elif count == 0:
            self.ended = True
        return count

    def write(self, data: "Any") -> "int | None":
        try:
            count: "int | None" = self._raw.write(data)
        except OSError:
            # The broker has closed; what it said before is still to be read.
            return len(data)
        return count

    def ioctl(self, request: int, argument: int) -> int:
        return 0


class _Attempt:
    """Stands where `opening` expects a stream."""

    def __init__(self) -> None:
        self.stage: "Stage" = "resolve"
        self.raw: "Any" = None


def probe(settings: "Settings", patience_ms: int) -> "Finding | None":
    """Return what a second handshake shows; ConnectionLost if the broker has nothing against us,
    None if that cannot be seen within `patience_ms`.

    Name resolution aside, it takes no longer. Raise MemoryError if there is too little for it.
    """
    if patience_ms < _LEAST_MS:
        return None
    deadline_ms = now_ms() + patience_ms
    with temporary():
        from ..tls.mbedtls import make_context

        context = make_context(settings)
    attempt = _Attempt()
    secured = None
    try:
        with temporary():
            from .opening import opening

            for _ in opening(attempt, settings):
                if now_ms() > deadline_ms:
                    return Finding(TimedOut)
        poll = select.poll()
        poll.register(attempt.raw, select.POLLIN)
        for _ in poll.ipoll(_FULL_MS):
            return Finding(NotTLS if _first(attempt.raw) else BrokerFull)
        wire = _Wire(attempt.raw)
        # The handshake wants 20 kB in two pieces; what was loaded for the way to here is gone.
        gc.collect()
        secured = context.wrap_socket(
            wire, server_hostname=settings.host, do_handshake_on_connect=False
        )
        return _shake_hands(secured, wire, poll, deadline_ms)
    except OSError:
        return Finding(ConnectionLost)
    finally:
        for sock in (secured, attempt.raw):
            if sock is not None:
                sock.close()


def _shake_hands(secured: "Any", wire: _Wire, poll: "Any", deadline_ms: int) -> Finding:
    failed = False
    while now_ms() < deadline_ms and not wire.ended and not wire.accepted:
        try:
            secured.read(1)
        except (OSError, ValueError):
            failed = True
            break
        for _ in poll.ipoll(_STEP_MS):
            break
    last = wire.last
    if last[:2] == b"\x15\x03" and last[3:5] == b"\0\x02":
        if last[2] < _TLS12_MINOR and last[6] == _HANDSHAKE_FAILURE:
            # The broker went by the version that it has, and found none of our suites there.
            return Finding(TLSVersionTooOld)
        return Finding(HandshakeFailed, alert=last[6], refused=True)
    if wire.accepted:
        return Finding(ConnectionLost)
    if wire.ended:
        return Finding(HandshakeFailed, refused=True) if last else Finding(NotTLS)
    return Finding(HandshakeFailed if failed else TimedOut)


def _first(raw: "Any") -> bytes:
    try:
        data: bytes = raw.read(1)
    except OSError:
        return b""
    return data
