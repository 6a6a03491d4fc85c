"""What a check raises when it does not hold, and waiting for what should come true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Far more than anything here takes by itself: a Pi is ten times slower, and has other things to do.
PATIENCE_S = 120.0
_POLL_S = 0.02


class Failed(Exception):
    """Something that was to hold does not; the message says what was seen in place of it."""


def wait_for(condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Poll `condition` until it is true and return its value; Failed after `timeout_s`, saying that
    `what` did not come.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(_POLL_S)
