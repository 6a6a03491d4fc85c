"""The journal's medium on CPython, a disk: files that are the owner's alone, the way to the disk, a lock between processes.

medium_flash.py is the same on a board.
"""

from __future__ import annotations

import fcntl
import io
import os
import threading
from collections.abc import Callable

# What a journal may take, unless the user says otherwise.
JOURNAL_BYTES = 64 << 20
# The last segment stays, empty of what is needed, up to this size: to bring a new file to the disk costs more than to append to one.
KEPT_BYTES = 65536
# Segments so large that opening and closing them costs little.
SEGMENT_BYTES = (4096, 1 << 20)


class _JournalFile(io.FileIO):
    """A file that is appended to without a buffer, so that what is written outlives the process; `flush` makes it outlive the power, too."""

    def __init__(self, path: str) -> None:
        self._directory: str | None = None if os.path.exists(path) else os.path.dirname(path)
        super().__init__(path, "ab", opener=_owner_only)

    def flush(self) -> None:
        try:
            os.fsync(self.fileno())
        except ValueError:  # closed meanwhile: whoever did that has seen to it, or has removed the file
            return
        if self._directory is not None:
            sync_directory(self._directory)
            self._directory = None


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def append_to(path: str) -> io.FileIO:
    """Open a file to be appended to; a new one is readable by its owner only."""
    return _JournalFile(path)


def sync_directory(path: str) -> None:
    """Bring to the disk which files a directory has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: str) -> None:
    """Make a directory for its owner only."""
    os.mkdir(path, 0o700)


def claim(directory: str) -> io.FileIO | None:
    """Hold a directory against every other process, until what this gives is closed; None if it is held already."""
    file = io.FileIO(directory + "/lock", "ab", opener=_owner_only)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file


def later(delay_ms: int, function: Callable[[], None]) -> None:
    """Call `function` after `delay_ms`, in a thread of its own."""
    timer = threading.Timer(delay_ms / 1000, function)
    timer.daemon = True
    timer.start()
