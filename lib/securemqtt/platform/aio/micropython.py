"""MicroPython's side of the asyncio face: the loop is turned at a pace of its own."""

import asyncio
from asyncio import core  # type: ignore[attr-defined]

from micropython import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# How long other tasks have between two turns that have found nothing to do. MicroPython's asyncio
# waits for the streams of its own kind only, and our TLS socket is none while it shakes hands; a
# task for each wait would cost a board's heap some kB per second.
_PACE_MS = const(10)
# How often a loop that pauses, for a back-off say, looks whether it is wanted.
_WANTED_MS = const(100)


class Awaitable:
    """What can be awaited, for the outcome that its kind gives."""

    def _outcome(self) -> "Any":
        raise NotImplementedError

    def __iter__(self) -> "Any":  # what `await` asks for here
        return self._outcome()


def ended_well(task: "Any") -> bool:
    """Return True if a task has ended, and neither by an exception nor since it was cancelled."""
    return bool(task.done()) and isinstance(task.data, StopIteration)


def is_gone(task: "Any") -> bool:
    """Return True if a task will not go on."""
    return bool(task.done())


class Rest:
    """The time between two turns of a connection's loop: other tasks run."""

    def __init__(self, connection: "Any") -> None:
        self._connection = connection
        self._woken = False
        self._tasks: "Any" = None

    def begin(self) -> None:
        """Go with the event loop that there is: its tasks are what `new_event_loop` forgets."""
        self._tasks = core._task_queue  # noqa: SLF001

    def end(self) -> None:
        """Do nothing."""

    def is_over(self) -> bool:
        """Return True if `new_event_loop` was called since it was begun."""
        return self._tasks is not core._task_queue  # noqa: SLF001

    def is_here(self) -> bool:
        """Return True: there is one event loop at a time."""
        return True

    def wake(self) -> None:
        """End a pause."""
        self._woken = True

    async def pause(self, idle_ms: int, longest_ms: int) -> None:
        """Let others run: for `idle_ms` if that is not 0, else for the time between two turns.

        For `longest_ms` at most.
        """
        connection = self._connection
        if self._woken or (not idle_ms and (connection.more or connection.link.heard)):
            self._woken = False
            await asyncio.sleep_ms(0)  # type: ignore[attr-defined]
            return
        pause_ms = min(idle_ms, _WANTED_MS) if idle_ms else _PACE_MS
        await asyncio.sleep_ms(min(pause_ms, longest_ms))  # type: ignore[attr-defined]

    async def beside(self, function: "Callable[[], None]") -> None:
        """Do what blocks: there is one thread, and flash lets nobody else work meanwhile."""
        function()
