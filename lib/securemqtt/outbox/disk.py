"""A journal's files on a computer's disk, where other threads and other processes are.

Not copied to a board.
"""

from __future__ import annotations

import _thread
import fcntl
import io
import os
import threading
import weakref
from collections.abc import Callable

from ..process import disown_in_children

# Not used here: a signal handler that publishes must find them loaded, since it may have
# interrupted an import.
from . import compaction, reading, upkeep  # noqa: F401
from .journal import Storage

# Keeps other processes out; it stays when the journal's own files are gone.
LOCK = "lock"


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
        self._files: weakref.WeakSet[JournalFile] = weakref.WeakSet()
        disown_in_children(self)

    def make_directory(self) -> None:
        os.mkdir(self.directory, 0o700)

    def claim(self) -> bool:
        if not self.claimed:
            file = io.FileIO(self.directory + "/" + LOCK, "ab", opener=_open_owner_only)
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
        file = JournalFile(path)
        self._files.add(file)
        return file

    def disown(self) -> None:
        """Let go of the parent's files in a forked child.

        The directory stays the parent's, and is free when the parent has ended.
        """
        for file in list(self._files):
            file.let_go()
        self.release()

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
        # A signal handler may come here once more, in the same thread.
        self._guard = threading.RLock()
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
            self.let_go()

    def let_go(self) -> None:
        """Close the file where no other thread has to do with it, and none may hold the guard."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = let_go


class Alarm:
    """Calls a function some time after it was set, in a thread of its own.

    There is one thread at a time: while the alarm is set, it keeps its time. It is not one of
    `threading`, which a signal handler must not start: the module has locks, and the thread that
    the handler interrupts may hold them.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._guard = threading.RLock()
        # Held as long as the alarm is to ring.
        self._set: _thread.LockType | None = None

    def set(self, delay_ms: int) -> None:
        """Have the function called in at most `delay_ms`."""
        with self._guard:
            if self._set is None:
                self._set = set_ = _thread.allocate_lock()
                set_.acquire()
                _thread.start_new_thread(self._keep_time, (delay_ms / 1000, set_))

    def cancel(self) -> None:
        """Have it not called any more."""
        with self._guard:
            set_, self._set = self._set, None
            if set_ is not None:
                set_.release()

    def _keep_time(self, delay_s: float, set_: _thread.LockType) -> None:
        if set_.acquire(timeout=delay_s):
            return
        with self._guard:
            if self._set is not set_:
                return
            self._set = None
        self._function()


def _open_owner_only(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
