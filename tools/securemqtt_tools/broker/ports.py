"""Free ports, for which a program may be too late: whoever starts one on them looks for that, and
tries others.
"""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Iterable

from securemqtt_tools.cli import FatalError

# Below the range from which Linux takes ports for outgoing connections: none can take ours while
# the broker is down.
_CHOICE = range(20_000, 32_000)
_ATTEMPTS = 100
# How often a broker is started on other ports, because somebody was faster.
PORT_ATTEMPTS = 5


def free_port(bind: str) -> int:
    """Return a TCP port that nothing listens on now at the address `bind` (empty: all).

    Raise FatalError.
    """
    check_own_address(bind)
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    for _ in range(_ATTEMPTS):
        port = random.choice(_CHOICE)  # noqa: S311  (nothing secret about a port)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((bind, port))
            except OSError:
                continue
            return port
    raise FatalError(
        f"no port from {_CHOICE.start} to {_CHOICE.stop} could be had on {bind or 'any address'}"
    )


def check_own_address(address: str) -> None:
    """Raise FatalError unless a program of this computer can listen on `address` (empty: all)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise FatalError(
            f"{address!r} is no address of this computer ({error.strerror}): name one that "
            "`ip address` shows"
        ) from error


def port_was_taken(log: bytes) -> bool:
    """Return True if what a broker said means that one of its ports was in use."""
    return os.strerror(errno.EADDRINUSE).lower().encode() in log.lower()


def taken_port(bind: str, ports: Iterable[int | None]) -> int | None:
    """Return that of these ports on which another program listens at the address `bind` (empty:
    all), if there is one.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    for port in filter(None, ports):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # as servers do, which so take no notice of connections that have ended
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((bind, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return port
    return None
