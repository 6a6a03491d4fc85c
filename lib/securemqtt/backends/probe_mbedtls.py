"""Ask a broker once more what it has against this device: a handshake whose alert is read off the
wire, since mbedTLS keeps it to itself.

Not a byte of MQTT is sent. Verification is on, as ever. Loaded for the diagnosis of a handshake
that failed, and forgotten again.
"""

import io
import select

from .._compat import TYPE_CHECKING, const, now_ms
from .context_mbedtls import make_context
from .tls_mbedtls import opening

if TYPE_CHECKING:
    from typing import Any

_PROBE_MS = const(5000)
# How long a broker that is full has to show it, by closing before we have said anything.
_FULL_MS = const(300)
_STEP_MS = const(20)


class _Wire(io.IOBase):
    """The socket under mbedTLS: remembers the end of what came in, and reads on where writing has
    failed.
    """

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
            # ChangeCipherSpec: the broker is content with our certificate.
            self.accepted = self.accepted or self.last[-6:] == b"\x14\x03\x03\0\x01\x01"
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


class _Probe:
    """Stands where `opening` expects a stream."""

    def __init__(self) -> None:
        self.stage = ""
        self.raw: "Any" = None
        self.wire: "Any" = None
        self.secured: "Any" = None

    def attach(self, context: "Any", host: str) -> None:
        self.wire = _Wire(self.raw)
        self.secured = context.wrap_socket(
            self.wire, server_hostname=host, do_handshake_on_connect=False
        )

    def close(self) -> None:
        for sock in (self.secured, self.raw):
            if sock is not None:
                sock.close()


def probe(settings: "dict[str, Any]") -> "tuple[str, int | None]":
    """Return the kind of fault (see diagnose.py) and the alert: "alert", "dropped" (closed without
    one), "closed" for nothing against us, …
    """
    context = make_context(settings)
    one = _Probe()
    deadline = now_ms() + _PROBE_MS
    try:
        for _ in opening(one, settings):  # type: ignore[arg-type]
            if now_ms() > deadline:
                return "silent", None
        one.attach(context, settings["host"])
        return _shake_hands(one, deadline)
    except OSError:
        return "closed", None
    finally:
        one.close()


def _shake_hands(one: _Probe, deadline: int) -> "tuple[str, int | None]":
    poll = select.poll()
    poll.register(one.raw, select.POLLIN)
    for _ in poll.ipoll(_FULL_MS):
        return ("plain" if _first(one.raw) else "full"), None
    wire = one.wire
    kind = "silent"
    while now_ms() < deadline and not wire.ended and not wire.accepted:
        try:
            one.secured.read(1)
        except (OSError, ValueError):
            kind = "other"
            break
        for _ in poll.ipoll(_STEP_MS):
            break
    last = wire.last
    if last[:2] == b"\x15\x03" and last[3:5] == b"\0\x02":
        return "alert", last[6]
    if wire.accepted:
        kind = "closed"
    elif wire.ended:
        kind = "dropped" if last else "plain"
    return kind, None


def _first(raw: "Any") -> bytes:
    try:
        data: bytes = raw.read(1)
    except OSError:
        return b""
    return data
