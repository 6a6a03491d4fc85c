"""One broker in the foreground for a directory: the lock that it holds, and who holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker.kinds import ENGINES
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import OWNER_ONLY, explained

LOCK = "run.lock"
_LOCKS = Path("/proc/locks")
# Who only looks holds the lock, too, for some microseconds.
_LOOKS_S = 2.0
_POLL_S = 0.01
_NONE = "-"


@dataclass(frozen=True)
class Noted:
    """Which kind of broker runs, and which one `broker run --engine` has named, if any: that one it
    stays, whatever the settings say.
    """

    engine: str
    wanted: str | None


@contextmanager
def holding(directory: Path) -> Iterator[int]:
    """Hold the lock of a directory; yield its descriptor. Raise FatalError where another has it."""
    path = directory / LOCK
    with explained(f"write {path}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        deadline = time.monotonic() + _LOOKS_S
        while not _locked(descriptor, fcntl.LOCK_EX):
            if running(directory) is not None or time.monotonic() > deadline:
                raise FatalError(
                    f"the broker of {directory} runs already: securemqtt broker reload has it take "
                    f"up what was changed"
                )
            time.sleep(_POLL_S)
        _write(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def note(descriptor: int, running: Noted) -> None:
    """Write into the lock that is held which broker runs; the settings may be for another one."""
    _write(descriptor, running.engine, running.wanted or _NONE)


def noted(directory: Path) -> Noted | None:
    """Return what runs in the foreground for this directory; None where nothing does, or that is
    not known.

    What the file says may be from a backup: it counts while it names the process that holds the
    lock.
    """
    pid = running(directory)
    if pid is None:
        return None
    path = directory / LOCK
    with explained(f"read {path}"):
        words = path.read_text("utf-8", "replace").split()
    if len(words) != 3 or words[0] != str(pid) or words[1] not in ENGINES:
        return None
    return Noted(words[1], words[2] if words[2] in ENGINES else None)


def is_held(directory: Path) -> bool:
    """Return True if a broker runs in the foreground for this directory."""
    path = directory / LOCK
    if not path.exists():
        return False
    with explained(f"read {path}"), path.open("rb") as lock:
        return not _locked(lock.fileno(), fcntl.LOCK_SH)


def running(directory: Path) -> int | None:
    """Return the process id of the broker that runs in the foreground for this directory, None if
    there is none, or the system does not tell, as of one in another container.
    """
    path = directory / LOCK
    if not path.exists():
        return None
    with explained(f"read {path}"), path.open("rb") as lock:
        if _locked(lock.fileno(), fcntl.LOCK_SH):
            return None
        return _holder(lock.fileno()) if _LOCKS.exists() else _noted(lock.read())


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> int | None:
    """Return the process that holds the lock of a file alone, as the kernel says: what the file
    says may be from a backup, and the number be another process's by now.
    """
    status = os.fstat(descriptor)
    for line in _LOCKS.read_text().splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE <process> <major>:<minor>:<inode> 0 EOF
        if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"]:
            pid, file = int(words[4]), words[5]
            if int(file.rpartition(":")[2]) == status.st_ino and _has_open(pid, status):
                return pid
    return None


def _has_open(pid: int, status: os.stat_result) -> bool:
    """Return True if a process has a file open, or does not let us see that; the inode alone would
    not tell, and the number of the device is not everywhere what `stat` says (btrfs).
    """
    try:
        opened = list(Path(f"/proc/{pid}/fd").iterdir())
    except PermissionError:  # another user's: who may not look may not send it a signal, either
        return True
    except OSError:
        return False
    return any(_is_same(one, status) for one in opened)


def _is_same(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


def _noted(content: bytes) -> int | None:
    """Return the number in the file, where no kernel tells of locks."""
    first = content.split(maxsplit=1)[:1]
    return int(first[0]) if first and first[0].isdigit() else None


def _write(descriptor: int, *words: str) -> None:
    content = " ".join((str(os.getpid()), *words)).encode()
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
