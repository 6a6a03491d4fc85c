"""Ctrl-C at any moment of a call of the client's: who interrupts a program keeps nothing of the
library's, and what it goes on with, a prompt for one, works.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from securemqtt.testing import FakeClient
from support.speed import seconds

STRIKES = 400
_INTERRUPTED = ("securemqtt.connection", "securemqtt.platform.cpython", "securemqtt.platform.lock")


@contextmanager
def _ctrl_c_again_and_again() -> Iterator[None]:
    """Have SIGINT come every 0.2 ms or so; what is the library's own code is interrupted by it."""
    over = threading.Event()
    main = threading.get_ident()

    def strike(number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_globals.get("__name__") in _INTERRUPTED:
            raise KeyboardInterrupt

    def press() -> None:
        while not over.wait(0.0002):
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, strike)
    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        yield
    finally:
        over.set()
        pressing.join(seconds(10))
        signal.signal(signal.SIGINT, before)


def _wait(client: FakeClient) -> None:
    client.wait(0.001)


def _publish(client: FakeClient) -> None:
    client.publish("~/note", "1").wait(seconds(10))


def _flush(client: FakeClient) -> None:
    client.flush(seconds(10))


@pytest.mark.parametrize("call", [_wait, _publish, _flush])
def test_ctrl_c_leaves_the_lock_to_others(call: Callable[[FakeClient], None]) -> None:
    client = FakeClient()
    client.connect(seconds(10))
    lock = client._connection.lock
    end = time.monotonic() + seconds(20)
    struck = held = 0
    with _ctrl_c_again_and_again():
        while struck < STRIKES and not held and time.monotonic() < end:
            try:
                call(client)
            except KeyboardInterrupt:  # and nothing else: not an error about a lock
                struck += 1
            held += lock._is_owned()
    assert not held, f"this thread has kept the lock, at the latest since strike {struck}"
    assert struck > 20
    assert client.publish("~/note", "2").wait(seconds(10))
    client.disconnect(seconds(10))
    assert client.state == "closed"
