"""Sockets for tests: free ports, and waiting for a condition with a deadline."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from support.speed import seconds

T = TypeVar("T")


def free_port() -> int:
    """Return a TCP port on loopback that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], T], timeout_s: float | None = None, what: str = "condition"
) -> T:
    """Poll `condition` until it is true and return its value; AssertionError after `timeout_s`, or
    after a time that is ample for anything.
    """
    if timeout_s is None:
        timeout_s = seconds(20)
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s:.1f} s")
        time.sleep(0.01)
