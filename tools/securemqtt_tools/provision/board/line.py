"""The serial line under mpremote, with an end to every wait.

mpremote waits while bytes come: from a board that prints without pause it would read for ever. All
its loops read and write here, and a read or write after the deadline ends them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mpremote.transport import TransportError  # type: ignore[import-untyped]


class OverdueError(TransportError):  # type: ignore[misc]
    """What was to be done within a time is not at its end."""


_OWN = ("received_bytes", "_port", "_deadline_s")


class DeadlineLine:
    """An open serial port, of which everything but reading, writing and asking is as it was.

    `received_bytes` counts what has come, which tells a board that talks from one that is silent.
    """

    def __init__(self, port: Any) -> None:
        self.received_bytes = 0
        self._port = port
        self._deadline_s: float | None = None

    @contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """Have reading and writing raise OverdueError once `limit_s` have passed in the block; one
        block within another has the nearer of both ends.
        """
        before = self._deadline_s
        end = time.monotonic() + limit_s
        self._deadline_s = end if before is None else min(end, before)
        try:
            yield
        finally:
            self._deadline_s = before

    def read(self, size: int = 1) -> bytes:
        """Read up to `size` bytes, as pyserial does. Raise OverdueError."""
        self._check()
        data = bytes(self._port.read(size))
        self.received_bytes += len(data)
        return data

    def write(self, data: bytes) -> int | None:
        """Write all of `data`, as pyserial does. Raise OverdueError."""
        self._check()
        count: int | None = self._port.write(data)
        return count

    def inWaiting(self) -> int:
        """Return how many bytes have come and were not read. Raise OverdueError."""
        self._check()
        return int(self._port.in_waiting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            super().__setattr__(name, value)
        else:
            setattr(self._port, name, value)

    def _check(self) -> None:
        if self._deadline_s is not None and time.monotonic() > self._deadline_s:
            raise OverdueError("the time for it is over")
