"""The MicroPython side of `_compat`: one thread, a clock that wraps, a log that prints."""

import os
import sys
import time

from micropython import const  # noqa: F401  (every module takes it from _compat)

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .client import Client

OUTBOX_MESSAGES = 100
OUTBOX_BYTES = 16384
INBOX_BYTES = 16384
MAX_PACKET_BYTES = 16384
TLS = "mbedtls"
MEDIUM = "flash"
READINESS = "readiness"
FLASH = True
# littlefs keeps a file of a few hundred bytes in its directory; creating and removing it costs a
# tenth of an erase, appending to it a whole one.
KEPT_BYTES = 0


def usual_places() -> list[str]:
    """Return the directories in which a bundle is looked for."""
    named = os.getenv("SECUREMQTT_BUNDLE") if hasattr(os, "getenv") else None
    return [named] if named else ["/secure"]


def append_to(path: str) -> "Any":
    """Open a file of the journal to be appended to; nothing is written before `flush`."""
    return open(path, "ab")


def plain(text: str) -> bool:
    """Return True if a topic needs no closer look: half a surrogate pair would show as 0xED, like
    some characters that are good.
    """
    return b"\xed" not in text.encode()


class Lock:
    """Stand in for a lock and a condition where there is one thread."""

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def notify_all(self) -> None:
        """Do nothing: no other thread waits."""


_last = time.ticks_ms()
_total = 0


def now_ms() -> int:
    """Return monotonic milliseconds that do not wrap, as long as this is called at least once in
    six days.
    """
    global _last, _total
    ticks = time.ticks_ms()
    _total += time.ticks_diff(ticks, _last)
    _last = ticks
    return _total


sleep_ms = time.sleep_ms


def serve_until(client: "Client", condition: "Callable[[], bool]", timeout_ms: int) -> bool:
    """Turn the client's loop, at least once, until `condition` holds; return True if it does within
    `timeout_ms`. There is no other thread.
    """
    deadline = now_ms() + timeout_ms
    done = condition()
    while True:
        left = 0 if done else max(deadline - now_ms(), 0)
        idle_ms = min(left, 1000) if client.state == "closed" else client._turn(left)
        if idle_ms:
            time.sleep_ms(idle_ms)
        done = condition()
        if done or not left:
            return done


def make_loop(client: "Client") -> None:
    """Do nothing: whoever waits turns the loop."""


def start_loop(client: "Client") -> None:
    """Do nothing: the client's state tells `serve_until` to turn it."""


def stop_loop(client: "Client", finish: "Callable[[], None]") -> None:
    """Call `finish` as the last turn."""
    finish()


def wake(client: "Client") -> None:
    """Do nothing: whoever could be waiting is the caller."""


def link_class() -> type:
    """Return the class that carries a connection on this interpreter."""
    from .backends.umqtt import UmqttLink

    return UmqttLink


def print_exception(error: BaseException) -> None:
    """Log that a handler of the user's failed, and print its traceback."""
    log("error", "a handler failed")
    sys.print_exception(error)


# Ports count from 1970 or from 2000; ours is always 1970, as in certificates and config.json.
_EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0


def unix_time() -> int:
    """Return the wall clock in seconds since 1970."""
    return int(time.time()) + _EPOCH_S


_told: "Callable[[str, str], None] | None" = None


def log(level: str, text: str) -> None:
    """Pass one line to the function that `log_to` set; without one, print it unless its level is
    debug.
    """
    if _told:
        _told(level, text)
    elif level != "debug":
        print("securemqtt", level + ":", text)


def log_to(function: "Callable[[str, str], None]") -> None:
    """Have `function(level, text)` called for each line of the log in place of `print`."""
    global _told
    _told = function
