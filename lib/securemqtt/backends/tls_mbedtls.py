"""The way to a connection on MicroPython.

Not kept in a board's memory, see `_compat.rarely`; stream.py is, and puts TLS on it.
"""

import errno
import select
import socket

from .._compat import TYPE_CHECKING, const

if TYPE_CHECKING:
    from typing import Any

    from .stream import Stream

_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)


def opening(stream: "Stream", settings: "dict[str, Any]") -> "Any":
    """Return a generator that finds `stream` its socket, yielding after 10 ms at most;
    `Stream.attach` goes on from there.
    """
    stream.stage = "resolve"
    addresses = socket.getaddrinfo(settings["host"], settings["port"], 0, socket.SOCK_STREAM)
    stream.stage = "connect"
    failed: "OSError | None" = None
    for family, kind, protocol, _, address in addresses[:4]:
        raw = socket.socket(family, kind, protocol)
        raw.setblocking(False)
        try:
            yield from _connecting(raw, address)
        except OSError as error:
            failed = error
            raw.close()
            continue
        try:
            raw.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        except OSError:
            # A port without the option: packets that share records make up for most of what Nagle's
            # algorithm costs.
            stream.stage = "connect"
        stream.stage = "handshake"
        stream.raw = raw
        return
    raise failed or OSError(errno.ECONNREFUSED)


def _connecting(raw: "Any", address: "Any") -> "Any":
    try:
        raw.connect(address)
        return
    except OSError as error:
        if error.errno != errno.EINPROGRESS:
            raise
    poll = select.poll()
    poll.register(raw, select.POLLOUT)
    while True:
        for _, event in poll.ipoll(10):
            if not event & (select.POLLERR | select.POLLHUP):
                return
            raw.connect(address)  # raises what the connection failed with
            raise OSError(errno.ECONNREFUSED)
        yield
