"""CPython's side: a thread that turns the loop, the standard logging, limits for a computer."""

from __future__ import annotations

import _thread
import logging
import os
import random
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .lock import Lock as Lock

T = TypeVar("T")

if os.name == "nt":
    raise ImportError(
        "securemqtt runs on Linux and macOS, not on Windows itself: use it within WSL 2, as "
        "docs/works-or-not-shown.md says"
    )

BACKEND = "paho"
# Whether Wi-Fi and clock are this library's to set up; a computer's system does that.
BOARD = False
OUTBOX_MESSAGES = 10_000
OUTBOX_BYTES = 16 << 20
# What may wait for its handlers, of QoS 1 and 2 and of QoS 0; and for its subscription.
INBOX_BYTES = 16 << 20
INBOX_QOS0_BYTES = 16 << 20
EARLY_BYTES = 16 << 20
# How long handlers run until the network has its turn; 0: it has a thread of its own.
HAND_OUT_MS = 0
# How many of the messages that were handled are remembered.
REMEMBERED = 1024
MAX_PACKET_BYTES = 1 << 20
# A certificate or key is PEM here, DER on a board.
TAKES_DER = False
# Whether the journal lies on a flash chip, which wears, and no other thread is there to sync it.
FLASH = False
# Whether there is the module `typing`, and with it `ClientOptions`.
HAS_TYPING = True

# What may not reach a terminal or a log as it is: see `escaped` in micropython.py.
_UNSAFE = re.compile(
    "[\\0-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ud800-\\udfff\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e0fff]"
)


def is_plain(text: str) -> bool:
    """Return True if a topic needs no closer look for what MQTT does not allow in it."""
    return text.isascii() and text.isprintable()


def escaped(text: str) -> str:
    """Return text in one line that is what it looks like: with what moves a terminal's cursor,
    turns the direction of writing, cannot be seen, or is half a character, written out.
    """
    return _UNSAFE.sub(lambda found: _written_out(ord(found[0])), text)


def _written_out(code: int) -> str:
    how = "\\x{:02x}" if code < 0x100 else "\\u{:04x}" if code < 0x10000 else "\\U{:08x}"
    return how.format(code)


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback with its words escaped, line breaks too: they may be what an
    outsider wrote, and read like a line of the log.
    """
    lines: list[str] = []
    for part in traceback.format_exception(error):
        text = part.removesuffix("\n")
        # Where it happened is indented, and has lines of its own.
        lines += text.split("\n") if text[:1].isspace() else [text]
    return "\n".join(map(escaped, lines))


def const(value: T) -> T:
    """Mark a constant for MicroPython's compiler."""
    return value


def bundle_places() -> list[str]:
    """Return the directories in which a bundle is looked for."""
    named = os.environ.get("SECUREMQTT_BUNDLE")
    if named:
        return [named]
    return ["/etc/securemqtt", os.path.expanduser("~/.config/securemqtt")]


def is_credential(path: str) -> bool:
    """Return True for a file that systemd put there for this service alone (LoadCredential=)."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and os.path.dirname(os.path.realpath(path)) == os.path.realpath(
        str(directory)
    )


def now_ms() -> int:
    """Return monotonic milliseconds."""
    return time.monotonic_ns() // 1_000_000


def unix_time() -> int:
    """Return the wall clock in seconds since 1970."""
    return int(time.time())


def random_between(low: int, high: int) -> int:
    """Return a random integer from `low` to `high`, both included; no secret is made of it."""
    return random.randint(low, high)  # noqa: S311


class Wakeable(Protocol):
    """What a turn of the loop may wait in: a link."""

    def wake(self) -> None:
        """End a wait for the network."""


class Turning(Protocol):
    """What a `Loop` turns: a connection."""

    lock: Lock

    def turn(self, wait_ms: int) -> int:
        """Do what is due; return for how many ms there is nothing to do."""

    @property
    def link(self) -> Wakeable:
        """What waits for the network."""


class Loop:
    """Turns a connection's loop in a thread of its own: a program that sleeps stays connected."""

    patience_ms = 5000  # how long a probing connection may take

    def __init__(self, connection: Turning) -> None:
        self._connection = connection
        self._changed = connection.lock
        # Held until somebody wakes the loop. No Event: a signal handler that interrupts its own
        # thread within `Event.set` would wait for ever there.
        self._asleep = _thread.allocate_lock()
        self._finish: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        # Taken by who turns the loop, or ends it where nobody does.
        self._turning = _thread.allocate_lock()
        self._broken: BaseException | None = None

    def start(self) -> None:
        """Start the thread."""
        self._turning = turning = _thread.allocate_lock()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(60)  # one that a mistake has ended may still be saying so
        self._finish = None
        self._broken = None
        self._thread = threading.Thread(
            target=self._run, args=(turning,), name="securemqtt", daemon=True
        )
        self._thread.start()

    def stop(self, finish: Callable[[], None]) -> None:
        """Have the thread call `finish` as its last turn, and wait for that, for at most 60 s."""
        self._finish = finish
        self.wake()
        if self._turning.acquire(blocking=False):
            # A signal handler that ends the program struck within `start`: no thread turns the
            # loop, nor will one.
            self._turning = _thread.allocate_lock()
            finish()
        elif self._thread is not None and self._thread is not threading.current_thread():
            with self._changed.laid_aside():
                self._thread.join(60)
            if not self._thread.is_alive():
                self._turning = _thread.allocate_lock()

    def wake(self) -> None:
        """End a pause, or a wait for the network, at once."""
        try:
            self._asleep.release()
        except RuntimeError:  # it is awake
            pass
        self._connection.link.wake()

    def notify(self, delivery: object) -> None:
        """Tell who waits that a message is acknowledged; with the connection's lock held."""
        self._changed.notify_all()

    def wait_for(self, condition: Callable[[], Any], timeout_ms: int) -> bool:
        """Block until `condition` holds, which is looked at with the lock held.

        Return True if it does within `timeout_ms`. Raise what the thread has ended with, if it has.
        """
        held = self._changed.wait_until(lambda: self._broken or condition(), timeout_ms / 1000)
        if self._broken is not None:
            raise self._broken
        return held

    def _run(self, turning: _thread.LockType) -> None:
        if not turning.acquire(blocking=False):
            return
        try:
            while self._finish is None:
                pause_ms = self._connection.turn(60_000)
                if pause_ms:
                    self._asleep.acquire(timeout=pause_ms / 1000)
            self._finish()
        except BaseException as error:
            # A mistake in the program, as `turn` deals with all else: it is raised where the
            # program waits, as on a board.
            with self._changed:
                self._broken = error
                self._changed.notify_all()
            raise


_logger = logging.getLogger("securemqtt")


def _with_traceback(record: logging.LogRecord) -> bool:
    """Give a line of the log its traceback; a formatter makes one only where there is none."""
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = traceback_of(record.exc_info[1])
    return True


_logger.addFilter(_with_traceback)
_LEVELS = {one.lower(): getattr(logging, one) for one in ("DEBUG", "INFO", "WARNING", "ERROR")}


_logging: list[int] = []  # the threads in which a handler of the program's log may run


def thread_id() -> int:
    """Return a number of the thread that calls this."""
    return threading.get_ident()


def emit(level: str, text: str, told: bool) -> None:
    """Log a line under the name `securemqtt`, whether `log_to`'s function was `told` it or not."""
    _log(_LEVELS[level], text, None)


def report_exception(error: BaseException) -> None:
    """Log that a handler of the user's failed, with its traceback."""
    _log(logging.ERROR, "a handler failed", error)


def _log(level: int, text: str, error: BaseException | None) -> None:
    thread = threading.get_ident()
    if thread in _logging:
        # A handler of the program's log has called us, to publish what it was given, say: to have
        # it log once more would have no end.
        _say(lambda: print("securemqtt:", text, file=sys.stderr))
        return
    _logging.append(thread)
    try:
        _logger.log(level, text, exc_info=error)
    except Exception as failed:  # noqa: BLE001  (a handler of the program's may raise anything)
        told = traceback_of(failed)
        _say(lambda: print(told, file=sys.stderr))
    finally:
        _logging.remove(thread)


def _say(write: Callable[[], None]) -> None:
    """Write to standard error; where that fails, too, on a full disk say, there is no place left to
    say so.
    """
    try:
        write()
    except (OSError, ValueError):
        return


class temporary:
    """A block in which modules are loaded for the occasion. A computer keeps them: see
    micropython.py for what a board does.
    """

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *exc: object) -> None:
        """Do nothing."""
