"""`Driver`: asyncio turns a connection's loop, in a task of its own. What `platform.Loop` is to the
face that blocks.
"""

import asyncio

from .connection import exhausted
from .log import log, log_exception
from .messages import Delivery
from .platform import const, now_ms, temporary
from .platform.aio import Rest

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .connection import Connection

# The longest pause between two turns, as that of a link's own wait.
_PAUSE_MS = const(1000)
_NEVER_MS = const(1 << 60)
# For how long it goes on where the program ends all its tasks, so that one can leave in order.
_LAST_MS = const(3000)
# The pause after a turn for which there was no memory.
_EXHAUSTED_S = const(1)
_EXHAUSTED = "no memory to look after the connection: in 1 s, again"


class _Waiter:
    """A task that waits for something to hold."""

    def __init__(self, condition: "Callable[[], Any]", deadline_ms: int) -> None:
        self.condition = condition
        self.deadline_ms = deadline_ms
        self.event = asyncio.Event()


class Driver:
    """Turns a connection's loop in a task, and lets other tasks wait for what comes of it.

    All of it belongs to one event loop, but for `wake`.
    """

    patience_ms = 0  # a probing connection would block

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._rest = Rest(connection)
        self._task: "asyncio.Task[None] | None" = None
        self._leaving = False
        self._broken: "BaseException | None" = None
        self._waiters: "list[_Waiter]" = []
        # Those who wait for a single message: it is looked up, however many there are.
        self._awaited: "dict[Delivery, _Waiter]" = {}
        self._given_up = False  # whether one of those may have been dropped
        connection.outbox.notify = self._note_given_up
        connection.turn_ms = 0

    # What the connection calls

    def start(self) -> None:
        """Start the task. Raise RuntimeError where no event loop runs."""
        self._leaving = False
        self._broken = None
        try:
            self._rest.begin()
        except RuntimeError:
            self._connection.abandon()
            raise
        self._task = asyncio.create_task(self._run())

    def stop(self, finish: "Callable[[], None]") -> None:
        """Have `finish` done at once, and end the task."""
        task, self._task = self._task, None
        if task is not None:
            self._rest.end()
            if not (self._rest.is_over() or self._is_current(task)):
                task.cancel()
        finish()
        self.look()

    def wake(self) -> None:
        """End a pause of the task's; any thread may call."""
        self._rest.wake()

    def wait_for(self, condition: "Callable[[], Any]", timeout_ms: int) -> bool:
        """Return True if `condition` holds: nothing is waited for outside a task."""
        return bool(condition())

    def notify(self, delivery: "Delivery") -> None:
        """Tell who waits for this message: it is acknowledged."""
        waiter = self._awaited.get(delivery)
        if waiter is not None:
            waiter.event.set()

    def _note_given_up(self) -> None:
        self._given_up = True

    # What tasks call

    async def wait_until(self, condition: "Callable[[], Any]", timeout_ms: "int | None") -> bool:
        """Wait until `condition` holds; return True if it does within `timeout_ms`.

        At once where the loop is not turned: nothing will change then. Raise what it has ended
        with, if that was a mistake of the program's.
        """
        deadline_ms = _NEVER_MS if timeout_ms is None else now_ms() + timeout_ms
        while not condition():
            if self._broken is not None:
                raise self._broken
            if self._task is None or now_ms() >= deadline_ms:
                return False
            self.check_loop()
            waiter = _Waiter(condition, deadline_ms)
            self._waiters.append(waiter)
            if timeout_ms is not None:
                self._rest.wake()  # its pause may be longer than that
            try:
                await waiter.event.wait()
            finally:
                if waiter in self._waiters:  # else the event loop was closed with this task in it
                    self._waiters.remove(waiter)
        return True

    async def outcome(self, delivery: "Delivery", timeout_ms: "int | None") -> bool:
        """Wait until a message is acknowledged, given up or parked; return True for the first."""

        def decided() -> bool:
            return delivery.acknowledged or delivery.dropped or delivery.parked

        # A stand-in is not what `notify` is called with; who waits for one with others, or not for
        # long, is looked at in each turn.
        if timeout_ms is not None or type(delivery) is not Delivery or delivery in self._awaited:
            await self.wait_until(decided, timeout_ms)
            return delivery.acknowledged
        waiter = _Waiter(decided, _NEVER_MS)
        delivery.awaited = True
        while not decided() and self._task is not None:
            self.check_loop()
            self._awaited[delivery] = waiter
            try:
                await waiter.event.wait()
                waiter.event.clear()
            finally:
                self._awaited.pop(delivery, None)
        if self._broken is not None:
            raise self._broken
        return delivery.acknowledged

    def check_loop(self) -> None:
        """Raise UsageError in another event loop than the one in which it is turned.

        Where that one is closed, nobody turns it any more: then it is left, and may be started.
        """
        if self._task is None:
            return
        if self._rest.is_over():
            # Its tasks will not go on, and must not be woken in another loop.
            self._waiters, self._awaited = [], {}
            self.abandon()
        elif not self._rest.is_here():
            from .errors import UsageError

            raise UsageError(
                "this client belongs to another event loop",
                cause="the client was started in one event loop and is used in another",
                remedy="make a Client in each loop, with an id of its own",
            )

    def check(self) -> None:
        """As `check_loop`; and raise what has ended the loop, if that was a mistake of the
        program's.
        """
        self.check_loop()
        if self._broken is not None:
            raise self._broken

    def check_staying(self) -> None:
        """Raise UsageError while a task is leaving."""
        if self._leaving and self._task is not None:
            from .errors import UsageError

            raise UsageError(
                "the client is about to leave",
                cause="another task has called disconnect, or has come to the end of async with",
                remedy="wait for that task first; await connect() does",
            )

    async def settled(self) -> None:
        """As `check_loop`; and wait until the client has left, if a task is at that."""
        self.check_loop()
        if self._leaving:
            task = self._task
            await self.wait_until(lambda: self._task is not task, None)

    def check_started(self) -> None:
        """Raise UsageError where the loop was never turned; none for a client that has left."""
        if not self._connection.left and self._task is None and self._broken is None:
            from .errors import UsageError

            raise UsageError("messages come to a client that was started: async with client")

    async def sync(self) -> None:
        """Bring to the storage what was published."""
        if self._connection.settings.outbox == "durable":
            await self._rest.beside(self._connection.outbox.sync)

    def abandon(self) -> None:
        """Leave without a word: the broker sends the will."""
        self._connection.left = True
        self._connection.abandon()

    async def leave(self) -> None:
        """Leave in order; where this is cancelled, without a word."""
        connection = self._connection
        connection.left = True
        task = self._task
        try:
            await self.sync()
            self._leaving = True
            self._rest.wake()
            await self.wait_until(lambda: self._task is not task, None)
        finally:
            if self._task is task and connection.state != "closed":
                self.abandon()

    # The task

    async def _run(self) -> None:
        connection = self._connection
        try:
            try:
                await asyncio.sleep(0)  # where tasks are begun at once, `start` is done only now
                await self._keep_up(_NEVER_MS)
            except asyncio.CancelledError:
                # Not by `stop`: the program ends all its tasks, as asyncio.run does. Those that
                # have the client leave then, and have messages delivered before.
                if not self._is_current(self._task):
                    raise
                await self._keep_up(now_ms() + _LAST_MS)
                if not self._leaving:
                    raise
            with temporary():
                from . import lifecycle

                leaving = lifecycle.finish(connection)
            connection.more = False
            for _ in leaving:
                connection.link.serve(0)
                await self._rest.pause(0, _PAUSE_MS)
            self._task = None
            self._rest.end()
        except Exception as error:  # noqa: BLE001  (a mistake in the program: raised where it waits)
            self._broken = exhausted(error) if isinstance(error, MemoryError) else error
            self.abandon()
            log_exception(error)
        except BaseException:
            # By `stop`, and it may have been started again since. Or the program ends all its
            # tasks, or a handler the program: nobody is to wait for what will not come.
            if self._is_current(self._task):
                self.abandon()
            raise
        finally:
            self.look()

    async def _keep_up(self, until_ms: int) -> None:
        """Turn the connection's loop until the client is to leave, or until then."""
        while not self._leaving and now_ms() < until_ms:
            try:
                idle_ms = self._connection.turn(_PAUSE_MS)
                self.look()
                await self._rest.pause(idle_ms, min(self._longest_ms(), until_ms - now_ms()))
            except MemoryError:  # what other tasks let go of meanwhile makes room
                log("warning", _EXHAUSTED)
                await asyncio.sleep(_EXHAUSTED_S)

    @staticmethod
    def _is_current(task: "asyncio.Task[None] | None") -> bool:
        try:
            return task is not None and task is asyncio.current_task()
        except RuntimeError:  # outside all tasks
            return False

    def look(self) -> None:
        """Hand out what has come, and tell those for whom something holds now."""
        connection = self._connection
        if connection.inbox is not None and connection.inbox.has_news():
            connection.inbox.hand_out(None)
        now = now_ms()
        over = self._task is None
        for waiter in self._waiters:
            if over or waiter.condition() or now >= waiter.deadline_ms:
                waiter.event.set()
        if over or self._given_up or connection.state != "connected":
            self._given_up = False
            for waiter in self._awaited.values():
                if over or waiter.condition():
                    waiter.event.set()

    def _longest_ms(self) -> int:
        """Return how long a pause may be."""
        deadline_ms = now_ms() + _PAUSE_MS
        for waiter in self._waiters:
            deadline_ms = min(deadline_ms, waiter.deadline_ms)
        return max(deadline_ms - now_ms(), 0)
