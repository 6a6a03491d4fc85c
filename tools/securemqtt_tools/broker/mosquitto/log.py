"""Mosquitto's log, read while it is written, for what Mosquitto tells nowhere else."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securemqtt_tools.broker.mosquitto.folder import READ
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained

# Behind the time, and nowhere else: a line may have what a client has chosen.
RELOADED = re.compile(rb"^\S+: Reloading config", re.MULTILINE)
_MOST_BYTES = 64 * 1024 * 1024
_POLL_S = 0.02


class Log:
    """Mosquitto's log, which must stay the same file. Every method raises FatalError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as descriptor:
            self._first = os.fstat(descriptor)

    @property
    def size(self) -> int:
        """Where it began when this object was made."""
        return self._first.st_size

    def since(self, offset: int) -> bytes:
        """Return what was written from `offset` on."""
        with self._opened() as descriptor:
            status = os.fstat(descriptor)
            if not os.path.samestat(status, self._first) or status.st_size < offset:
                raise FatalError(f"{self._path} was begun anew meanwhile")
            return os.pread(descriptor, _MOST_BYTES, offset)

    def end(self) -> int:
        """Return where it ends by now."""
        with self._opened() as descriptor:
            return os.fstat(descriptor).st_size

    def before(self, offset: int) -> bytes:
        """Return what was written up to `offset`, the end of it if that is much."""
        begin = max(0, offset - _MOST_BYTES)
        return self.since(begin)[: offset - begin]

    def await_match(
        self, pattern: re.Pattern[bytes], offset: int, timeout_s: float, what: str
    ) -> int:
        """Return the end of the first match from `offset` on, counted from there."""
        deadline = time.monotonic() + timeout_s
        while (found := pattern.search(self.since(offset))) is None:
            if time.monotonic() > deadline:
                raise FatalError(f"Mosquitto does not say in {self._path} {what}")
            time.sleep(_POLL_S)
        return found.end()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with explained(f"read {self._path}"):
            descriptor = os.open(self._path, READ)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FatalError(f"cannot read {self._path}: it is no file")
                yield descriptor
            finally:
                os.close(descriptor)
