"""The CPython side of `_compat`: a thread that turns the loop, the standard logging.

Not copied to a board.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")

OUTBOX_MESSAGES = 10000
OUTBOX_BYTES = 16 << 20
INBOX_BYTES = 16 << 20
MAX_PACKET_BYTES = 1 << 20
TLS = "openssl"
MEDIUM = "disk"
READINESS = "readiness_pi"
FLASH = False
# The journal's last segment stays, empty of what is needed, up to this size: to bring a new file to
# the disk costs more than to append to one.
KEPT_BYTES = 65536


def usual_places() -> list[str]:
    """Return the directories in which a bundle is looked for."""
    named = os.environ.get("SECUREMQTT_BUNDLE")
    return [named] if named else ["/etc/securemqtt", os.path.expanduser("~/.config/securemqtt")]


def append_to(path: str) -> Any:
    """Open a file of the journal to be appended to."""
    from .medium_disk import JournalFile

    return JournalFile(path)


def const(value: T) -> T:
    """Mark a constant for MicroPython's compiler."""
    return value


Lock = threading.Condition
plain = str.isascii  # whether a topic needs no closer look


def now_ms() -> int:
    """Return monotonic milliseconds."""
    return time.monotonic_ns() // 1_000_000


def sleep_ms(duration_ms: int) -> None:
    """Block for `duration_ms` milliseconds."""
    time.sleep(duration_ms / 1000)


class Loop:
    """Turn the client's loop in a thread of its own, so that a program that sleeps keeps its
    connection.
    """

    def __init__(self, client: Client) -> None:
        self._turn = client._turn
        self._link = client._link
        self._changed = client._lock
        self._woken = threading.Event()
        self._finish: "Callable[[], None] | None" = None
        self._thread: "threading.Thread | None" = None
        self._broken: "BaseException | None" = None

    def start(self) -> None:
        """Start the thread."""
        self._finish = None
        self._broken = None
        self._thread = threading.Thread(target=self._run, name="securemqtt", daemon=True)
        self._thread.start()

    def stop(self, finish: "Callable[[], None]") -> None:
        """Have the thread call `finish` as its last turn, and wait for that."""
        self._finish = finish
        self.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(60)

    def _run(self) -> None:
        try:
            while self._finish is None:
                pause_ms = self._turn(60_000)
                if pause_ms:
                    self._woken.wait(pause_ms / 1000)
                    self._woken.clear()
            self._finish()
        except BaseException as error:
            # A mistake in the program, as `_turn` deals with all else: it is raised where the
            # program waits, as on a board.
            with self._changed:
                self._broken = error
                self._changed.notify_all()
            raise

    def wait_for(self, condition: "Callable[[], bool]", timeout_ms: int) -> bool:
        """Block until `condition` holds, which is looked at with the lock held; return True if it
        does within `timeout_ms`.
        """
        with self._changed:
            held = bool(
                self._changed.wait_for(lambda: self._broken or condition(), timeout_ms / 1000)
            )
        if self._broken is not None:
            raise self._broken
        return held

    def wake(self) -> None:
        """End a pause, or a wait for the network, at once."""
        self._woken.set()
        self._link.wake()


def make_loop(client: Client) -> None:
    """Return the client what turns its loop."""
    client._loop = Loop(client)


def start_loop(client: Client) -> None:
    """Have the loop turn from now on."""
    client._loop.start()


def stop_loop(client: Client, finish: Callable[[], None]) -> None:
    """Have `finish` be the loop's last turn, and wait for that."""
    client._loop.stop(finish)


def serve_until(client: Client, condition: Callable[[], bool], timeout_ms: int) -> bool:
    """Wait until `condition` holds; return True if it does within `timeout_ms`.

    The loop turns in its own thread meanwhile.
    """
    held: bool = client._loop.wait_for(condition, timeout_ms)
    return held


def wake(client: Client) -> None:
    """Have the loop look at once at what there is to do."""
    client._loop.wake()


def link_class() -> type:
    """Return the class that carries a connection on this interpreter."""
    from .backends.paho import PahoLink

    return PahoLink


def print_exception(error: BaseException) -> None:
    """Log that a handler of the user's failed, with its traceback."""
    _logger.error("a handler failed", exc_info=error)


def unix_time() -> int:
    """Return the wall clock in seconds since 1970."""
    return int(time.time())


_logger = logging.getLogger("securemqtt")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


_told: "Callable[[str, str], None] | None" = None


def log(level: str, text: str) -> None:
    """Log under the name `securemqtt`, and tell the function that `log_to` set; `level` is debug,
    info, warning or error.
    """
    _logger.log(_LEVELS[level], text)
    if _told is not None:
        _told(level, text)


def log_to(function: "Callable[[str, str], None]") -> None:
    """Have `function(level, text)` called for each line of the log, whatever its level, beside what
    `logging` does with it.

    It takes the place of the one before, and is called in the thread that has something to say,
    most often the client's own.
    """
    global _told
    _told = function
