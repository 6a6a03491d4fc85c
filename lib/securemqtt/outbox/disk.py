"""A journal's files on a computer's disk, where other threads and other processes are.

Not copied to a board.
"""

from __future__ import annotations

import fcntl
import io
import os
import threading
from collections.abc import Callable

from .journal import Storage


class Disk(Storage):
    """A directory that is its owner's alone."""

    journal_bytes = 64 << 20
    # So large that opening and closing segments costs little.
    segment_bytes = (4096, 1 << 20)
    kept_bytes = 65536

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.sharing = self
        self.claimed = False
        self._claim: io.FileIO | None = None

    def make_directory(self) -> None:
        os.mkdir(self.directory, 0o700)

    def claim(self) -> bool:
        if not self.claimed:
            file = io.FileIO(self.directory + "/lock", "ab", opener=_open_owner_only)
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            except OSError:
                file.close()
                raise
            self._claim = file
            self.claimed = True
        return True

    def release(self) -> None:
        file, self._claim = self._claim, None
        self.claimed = False
        if file is not None:
            file.close()

    def open(self, path: str) -> JournalFile:
        return JournalFile(path)

    def sync_names(self) -> None:
        _sync_directory(self.directory)

    def alarm(self, function: Callable[[], None]) -> Alarm:
        return Alarm(function)


class JournalFile:
    """A file that is appended to without a buffer, so that what is written outlives the process.

    `flush` may run while another thread writes or closes. A new file is readable by its owner only.
    """

    def __init__(self, path: str) -> None:
        # Of a new file, not even the name is on the disk before its directory was brought there.
        self._directory = None if os.path.exists(path) else os.path.dirname(path)
        self._descriptor = -1
        # For the descriptor, which must not be another file's by the time of the system call.
        self._guard = threading.Lock()
        self._descriptor = _open_owner_only(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, data: bytes) -> int:
        """Append; return how many bytes there was room for."""
        return os.write(self._descriptor, data)

    def flush(self) -> None:
        """Bring what was written to the disk, and the name of a new file; nothing if it is closed.

        Block for as long as that takes.
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
            _sync_directory(self._directory)
            self._directory = None

    def close(self) -> None:
        """Let go of the file, without a wait for the disk."""
        with self._guard:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


class Alarm:
    """Calls a function some time after it was set, in a thread of its own.

    There is one thread at a time: while the alarm is set, it keeps its time.
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


def _open_owner_only(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
