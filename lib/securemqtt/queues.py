"""What has come for the tasks of an asyncio program, and which task is at what."""

import asyncio

from .driver import Driver
from .early import size_of
from .log import log, printable
from .platform import INBOX_QOS0_BYTES, const
from .platform.aio import ended_well, is_gone

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from .messages import Message

_DROPPING = (
    "QoS 0 messages come faster than they are taken: the newest are dropped until there is room, "
    "the first on {}. What to do: take them in a task that does nothing else"
)


class Messages:
    """What comes under one filter, message by message: what `Client.messages` returns."""

    def __init__(self, queue: "Queue", driver: Driver) -> None:
        self._queue = queue
        self._driver = driver

    def __aiter__(self) -> "Messages":
        return self

    def __anext__(self) -> "Coroutine[Any, Any, Message]":
        # Who takes the message is who calls this. What is awaited may run in a task of its own:
        # `asyncio.wait_for` has it so, on a board and before Python 3.12.
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs here: it will when this is awaited
            task = None
        return self._next(task)

    async def _next(self, task: "Any") -> "Message":
        queue = self._queue
        self._driver.check()
        task = task or asyncio.current_task()
        queue.done(task, self)
        while not queue.ready():
            if not await self._driver.wait_until(queue.ready, None):
                self._driver.check_started()
                raise StopAsyncIteration
            # Another task may have ended since with what it took through this iterator.
            queue.done(task, self)
        message = queue.take(task, self)
        if message is None:
            raise StopAsyncIteration
        return message


class Desk:
    """What the queues of one client share: which message is in how many of them."""

    def __init__(self, connection: "Any") -> None:
        self._counters = connection.counters
        self._holders: "dict[Message, int]" = {}
        self._bytes_qos0 = 0
        self._dropping = False

    def take_in(self, message: "Message") -> bool:
        """Note that one more queue has a message; return False if there is no room for it."""
        if not message.qos:
            size = size_of(message)
            if self._bytes_qos0 and self._bytes_qos0 + size > INBOX_QOS0_BYTES:
                self._counters["dropped_in"] += 1
                if not self._dropping:
                    self._dropping = True
                    log("warning", _DROPPING.format(printable(message.topic)))
                return False
        self._holders[message] = self._holders.get(message, 0) + 1
        if not message.qos:
            self._bytes_qos0 += size
        return True

    def done(self, message: "Message") -> None:
        """Note that a queue is done with a message: the last one has it acknowledged."""
        left = self._holders.pop(message, 1) - 1
        if not message.qos:
            self._bytes_qos0 -= size_of(message)
            self._dropping = self._dropping and self._bytes_qos0 > 0
        if left:
            self._holders[message] = left
        elif message.qos:
            message.acknowledge()


class Queue:
    """What has come under one filter, and which task is at what."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: "list[Message]" = []
        # By which task, and through which iterator.
        self._taken: "list[tuple[Any, Messages, Message]]" = []
        self._ended = False

    def take_in(self, message: "Message") -> None:
        """Have a message wait: the handler of the subscription.

        Raise MemoryError: then the message waits where it was, and is brought again.
        """
        self._waiting.append(message)
        taken = False
        try:
            taken = self._desk.take_in(message)
        finally:
            if not taken:
                self._waiting.pop()

    def ready(self) -> bool:
        """Return True if there is a message to take, or none will ever come."""
        if self._waiting or self._ended:
            return True
        for entry in self._taken:  # noqa: SIM110  (a generator would be garbage in each turn)
            if is_gone(entry[0]):
                return True
        return False

    def take(self, task: "Any", iterator: "Messages") -> "Message | None":
        """Return the next message, for a task; None if there will be none.

        First what a task has ended amid.
        """
        given_back = [entry for entry in self._taken if is_gone(entry[0])]
        if given_back:
            self._waiting[:0] = [entry[2] for entry in given_back]
            for entry in given_back:
                self._taken.remove(entry)
        if not self._waiting:
            return None
        # Taken before it no longer waits: memory may run out in between.
        message = self._waiting[0]
        self._taken.append((task, iterator, message))
        self._waiting.pop(0)
        return message

    def done(self, task: "Any", iterator: "Messages") -> None:
        """Note that a task is through with what it took; or, where it has come to its end since,
        as each line that is typed at a prompt does, that it took through this iterator.
        """
        for entry in list(self._taken):
            if entry[0] is task or (entry[1] is iterator and ended_well(entry[0])):
                self._taken.remove(entry)
                self._desk.done(entry[2])

    def end(self) -> None:
        """Let go of what waits, or was taken: nobody wants it any more."""
        self._ended = True
        given_up = [entry[2] for entry in self._taken] + self._waiting
        self._taken, self._waiting = [], []
        for message in given_up:
            self._desk.done(message)
