"""Waiting for another thread's work where Ctrl-C may strike."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.002


def result_of(future: Future[T], timeout_s: float) -> T:
    """Return what another thread's work has given, or raise what it raised; TimeoutError when it is
    not done in time.

    `Future.result` waits with a `threading.Condition`: Ctrl-C that strikes there right after it has
    let go of its lock becomes a RuntimeError, of that lock.
    """
    deadline = time.monotonic() + timeout_s
    while not future.done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {timeout_s:.0f} s")
        time.sleep(_POLL_S)
    return future.result()
