"""The processes below this one, as Linux shows them under /proc."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_ZOMBIE = "Z"
_POLL_S = 0.02


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` has started, and those that they have started; none where
    there is no /proc.
    """
    parents = {
        int(path.name): parent for path in _PROC.glob("[0-9]*") if (parent := _stat(path)[1])
    }
    found = [pid]  # grows below
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def running(pid: int) -> bool:
    """Return True if a process is there and has not ended."""
    return _stat(_PROC / str(pid))[0] not in ("", _ZOMBIE)


def wait_for_end(pids: Iterable[int], timeout_s: float) -> list[int]:
    """Wait until processes have ended; return those that have not after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while (left := [pid for pid in pids if running(pid)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return left


def _stat(process: Path) -> tuple[str, int]:
    """Return a process's state and its parent: the two fields after the name, which may hold
    anything (proc(5)).
    """
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return "", 0
    return fields[0], int(fields[1])
