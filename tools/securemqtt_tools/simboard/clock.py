"""The board's clock: it starts wrong, as a board's does, and only the board sets it.

The interpreter, and mbedTLS in it, read the host's clock through libfaketime, which shifts it by
$FAKETIME seconds. Its monotonic clock is left alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from datetime import datetime
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where the C library keeps shm_open's)
_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")
MISSING = (
    "the board's clock is this machine's clock: its wrong start needs libfaketime (apt-get "
    "install libfaketime)"
)


def find_libfaketime() -> Path | None:
    """Return libfaketime's path where Debian and others install it, or None."""
    for pattern in _LIBRARIES:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            return path
    return None


def unlink_shared_memory(pid: int) -> None:
    """Remove the names of the shared memory that libfaketime makes for process `pid` and leaves
    behind if that is killed.

    The process itself goes on with what it has mapped.
    """
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        with contextlib.suppress(OSError):
            (_SHARED_MEMORY / name).unlink()


class BoardClock:
    """How far the board's clock is from the host's."""

    def __init__(self, start: datetime, library: Path | None) -> None:
        self._start = start.timestamp()
        self._library = library
        self._offset_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin again at the moment that a board without power forgets to."""
        self.set(self._start)

    def set(self, seconds_since_1970: float) -> str | None:
        """Set the clock; return the shift in libfaketime's notation, None where the clock cannot be
        set.
        """
        self._offset_s = seconds_since_1970 - time.time()
        return self._shift() if self._library else None

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make an interpreter see this clock."""
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME": self._shift(),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def _shift(self) -> str:
        # Rounded up: a clock that was just set must not show the second before.
        return f"{math.ceil(self._offset_s * 1000) / 1000:+.3f}"
