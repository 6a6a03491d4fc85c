"""CPython's side of the asyncio face: the program's event loop waits for the link's socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol


class Waiting(Protocol):
    """What the link waited for last: transport/waiting.py."""

    fd: int
    events: int
    wake_fd: int

    def slept(self) -> None:
        """Note that `wake` was heard."""

    def was_woken(self) -> bool:
        """Return True if `wake` was heard within a turn."""


class Link(Protocol):
    """The link, as far as it is seen from here."""

    heard: bool
    quiet_ms: int

    @property
    def waiting(self) -> Waiting:
        """What it waits for."""

    def wake(self) -> None:
        """End a wait; from another thread, too."""


class Turned(Protocol):
    """The connection, as far as it is seen from here."""

    more: bool

    @property
    def link(self) -> Link:
        """Its way to the broker."""


# poll's numbers (select.POLLIN, select.POLLOUT), which a link gives.
_IN, _OUT = 1, 4


class Awaitable:
    """What can be awaited, for the outcome that its kind gives."""

    def _outcome(self) -> Coroutine[Any, Any, bool]:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, Any, bool]:
        return self._outcome().__await__()


def ended_well(task: asyncio.Task[Any]) -> bool:
    """Return True if a task has ended, and neither by an exception nor since it was cancelled."""
    if not task.done() or task.cancelled():
        return False
    # Not by `exception()`, which would count as its having been looked at, and not be logged.
    return getattr(task, "_exception", task) is None


def is_gone(task: asyncio.Task[Any]) -> bool:
    """Return True if a task will not go on: it has ended, or its event loop is closed."""
    return task.done() or task.get_loop().is_closed()


class Rest:
    """The time between two turns of a connection's loop: other tasks run, until the network or
    `wake` has something for the next one.

    Belongs to the event loop in which it was begun, but for `wake`.
    """

    def __init__(self, connection: Turned) -> None:
        self._connection = connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._woken = False
        self._fd = -1  # what this pause waits for
        self._ended: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Go with the event loop that runs now; `end` is due."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._loop.add_reader(self._connection.link.waiting.wake_fd, self._heard)

    def end(self) -> None:
        """Wait for nothing any more."""
        self._ended = None
        self._forget()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._connection.link.waiting.wake_fd)

    def is_over(self) -> bool:
        """Return True if the event loop it was begun in is closed."""
        return self._loop is not None and self._loop.is_closed()

    def is_here(self) -> bool:
        """Return True if the event loop that runs is the one it was begun in; or none does, in this
        thread: then it stands still between two runs.
        """
        try:
            return self._loop is asyncio.get_running_loop()
        except RuntimeError:  # none does
            return self._thread == threading.get_ident()

    def wake(self) -> None:
        """End a pause; any thread may call."""
        if threading.get_ident() == self._thread:
            self._woken = True
            self._finish()
        else:
            self._connection.link.wake()

    def _heard(self) -> None:
        self._connection.link.waiting.slept()
        self._finish()

    def _finish(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def pause(self, idle_ms: int, longest_ms: int) -> None:
        """Let others run: for `idle_ms` if that is not 0, else until the network has something.

        For `longest_ms` at most.
        """
        loop, link = self._loop, self._connection.link
        if loop is None:
            return
        woken = link.waiting.was_woken() or self._woken
        if woken or (not idle_ms and (self._connection.more or link.heard)):
            self._woken = False
            await asyncio.sleep(0)
            return
        fd, events = (-1, 0) if idle_ms else (link.waiting.fd, link.waiting.events)
        ended = self._ended = loop.create_future()
        pause_ms = min(idle_ms or link.quiet_ms, longest_ms)
        timer = loop.call_later(max(pause_ms, 0) / 1000, self._finish)
        # For this pause only: the link may close the socket in its turn, and the next one that
        # anybody makes may have the same number.
        self._fd = fd
        if fd >= 0 and events & _IN:
            loop.add_reader(fd, self._finish)
        if fd >= 0 and events & _OUT:
            loop.add_writer(fd, self._finish)
        try:
            await ended
        finally:
            timer.cancel()
            if self._ended is ended:  # else it was begun again
                self._ended = None
                self._woken = False
                self._forget()

    def _forget(self) -> None:
        """Wait for the link's socket no longer, which may be about to be closed."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)

    async def beside(self, function: Callable[[], None]) -> None:
        """Have what blocks done in the event loop's executor."""
        try:
            done = asyncio.get_running_loop().run_in_executor(None, function)
        except RuntimeError:  # it was shut down, since the program ends: nobody else is held up
            function()
            return
        await done
