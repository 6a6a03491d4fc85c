"""The journal's medium on CPython, a disk: files that are the owner's alone, the way to the disk, a
lock between processes.

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
# Segments so large that opening and closing them costs little.
SEGMENT_BYTES = (4096, 1 << 20)


class JournalFile:
    """A file that is appended to without a buffer, so that what is written outlives the process;
    `flush` makes it outlive the power, too.

    `flush` may run while another thread writes or closes. A new file is readable by its owner only.
    """

    def __init__(self, path: str) -> None:
        self._directory = None if os.path.exists(path) else os.path.dirname(path)
        self._descriptor = -1
        # for the descriptor, which must not be another file's by the time of the system call
        self._guard = threading.Lock()
        self._descriptor = _open_owner_only(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, data: bytes) -> int:
        """Append; return how many bytes there was room for."""
        return os.write(self._descriptor, data)

    def flush(self) -> None:
        """Bring to the disk what was written, and where the file is new its name; nothing if it is
        closed.
        """
        with self._guard:
            if self._descriptor < 0:
                return
            descriptor = os.dup(self._descriptor)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if self._directory is not None:
            sync_directory(self._directory)
            self._directory = None

    def close(self) -> None:
        """Let go of the file, without a wait for the disk."""
        with self._guard:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


def _open_owner_only(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


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
    """Hold a directory against every other process, until what this gives is closed; None if it is
    held already.
    """
    file = io.FileIO(directory + "/lock", "ab", opener=_open_owner_only)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file


class Alarm:
    """Calls a function some time after it was set, in a thread of its own: one at a time, so while
    it is set it keeps its time.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._guard = threading.Lock()
        self._timer: threading.Timer | None = None

    def set(self, delay_ms: int) -> None:
        """Have the function called in at most `delay_ms`."""
        with self._guard:
            if self._timer is None:
                self._timer = threading.Timer(delay_ms / 1000, self._ring)
                self._timer.daemon = True
                self._timer.start()

    def cancel(self) -> None:
        """Have it not called any more."""
        with self._guard:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _ring(self) -> None:
        with self._guard:
            self._timer = None
        self._function()
