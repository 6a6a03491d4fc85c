"""`Client` for asyncio: the same device, options, guarantees and errors as `securemqtt.Client`.

    from securemqtt.aio import Client

    async with Client() as client:
        await client.publish("~/temperature", {"celsius": 21.5})
        async for message in client.messages("~/command/+"):
            ...

The program's event loop drives the connection, in a task of the client's own: no thread turns it.
On CPython name look-ups have a thread, and a durable outbox's sync the loop's executor; on a board
both hold up the loop for as long as they take.
"""

import asyncio

from .arguments import milliseconds
from .connection import exhausted
from .driver import Driver
from .early import size_of
from .face import Face
from .log import log, printable
from .platform import INBOX_QOS0_BYTES, const, now_ms, temporary
from .platform.aio import Awaitable, ended_well

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from os import PathLike
    from typing import Any

    from typing_extensions import Unpack  # the type checker's own: 3.10 has none in typing

    from . import messages
    from .connection import Connection
    from .messages import Message
    from .options import ClientOptions

__all__ = ["Client", "Delivery", "Messages"]

# How long leaving may take to deliver what is queued, where the block has ended with an exception.
_INTERRUPTED_S = const(2)
# After so many messages `publish` lets other tasks run, this client's own among them.
_TURN_MESSAGES = const(16)
_DROPPING = (
    "QoS 0 messages come faster than they are taken: the newest are dropped until there is room, "
    "the first on {}. What to do: take them in a task that does nothing else"
)


class Client(Face):
    """One device's connection to its broker, for asyncio.

    Arguments, options, properties, `on_state` and `on_error` are those of `securemqtt.Client`; the
    handlers of the latter two are called between tasks, and must not block. A client belongs to the
    event loop in which it is started. Each method that is awaited may be cancelled: what was
    published stays in the outbox, and what was not acknowledged comes again.
    """

    def __init__(
        self, bundle: "str | PathLike[str] | None" = None, **options: "Unpack[ClientOptions]"
    ) -> None:
        super().__init__(bundle, **options)
        self._queues: "dict[str, _Queue]" = {}
        self._desk = _Desk(self._connection)
        self._published = 0

    def _make_loop(self, connection: "Connection") -> Driver:
        self._driver = Driver(connection)
        return self._driver

    # The connection

    async def connect(self, timeout_s: float = 30) -> None:
        """Connect once, in at most `timeout_s` seconds, or raise the error that says why not.

        See `securemqtt.Client.connect`.
        """
        connection = self._connection
        timeout_ms = milliseconds(timeout_s, "timeout_s")
        self._driver.check_loop()
        try:
            connection.decide_by_ms = now_ms() + timeout_ms
            connection.start_now()
            await self._driver.wait_until(connection.is_decided, timeout_ms)
            if connection.state != "connected":
                with temporary():
                    from . import lifecycle

                    error = lifecycle.given_up(connection, timeout_s)
                await self._driver.leave()
                raise error
        except MemoryError as error:
            self._driver.abandon()
            raise exhausted(error)
        except asyncio.CancelledError:
            self._driver.abandon()
            raise
        finally:
            connection.decide_by_ms = 0

    def start(self) -> None:
        """Keep the connection up from now on, trying again for ever, in the running event loop.

        Never raises for the network's sake. Raise OutboxInUse, RuntimeError without a loop.
        """
        self._driver.check_loop()
        self._connection.start()

    async def disconnect(self, timeout_s: float = 10) -> None:
        """Deliver what is queued, within `timeout_s` seconds if connected, and leave in order.

        What is left stays in the outbox. Cancelled, it leaves at once, and the broker sends the
        will.
        """
        connection = self._connection
        milliseconds(timeout_s, "timeout_s")  # also where it is not needed
        self._driver.check_loop()
        try:
            if connection.state == "connected":
                await self.flush(timeout_s)
        except asyncio.CancelledError:
            self._driver.abandon()
            raise
        finally:
            if connection.state != "closed":
                await self._driver.leave()

    async def __aenter__(self) -> "Client":
        """Keep the connection up within the block: see `securemqtt.Client.__enter__`."""
        connection = self._connection
        self._driver.check_loop()
        try:
            self._check_certificate()
            connection.start_now()
            timeout_ms = milliseconds(connection.settings.connect_timeout_s, "connect_timeout_s")
            if not await self._driver.wait_until(connection.is_entered, timeout_ms):
                self._check_certificate()  # a board's clock may be right only now
            own = connection.own_fault()
            if own is not None:
                raise own
        except MemoryError as error:
            self._driver.abandon()
            raise exhausted(error)
        except BaseException:
            if connection.state != "closed":
                self._driver.abandon()
            raise
        return self

    async def __aexit__(self, kind: "type | None", *exc: object) -> None:
        await self.disconnect(10 if kind is None else _INTERRUPTED_S)

    # Messages

    async def publish(
        self,
        topic: str,
        payload: object,
        qos: int = 1,
        retain: bool = False,
        expires_s: "float | None" = None,
        newest_only: bool = False,
    ) -> "Delivery":
        """Queue a message, and return once it is in the outbox; the network is not waited for.

        With outbox="durable" and outbox_fsync="each" it is in storage then. Await the Delivery for
        the broker's acknowledgement. Cancelled, the message may be in the outbox all the same.
        Arguments and errors are those of `securemqtt.Client.publish`.
        """
        delivery = self._put(topic, payload, qos, retain, expires_s, newest_only, False)
        self._published += 1
        if self._connection.outbox.sync_on_put:
            await self._driver.sync()
        elif self._published % _TURN_MESSAGES == 0:
            await asyncio.sleep(0)
        return Delivery(delivery, self._driver)

    def messages(self, topic_filter: str, qos: int = 1) -> "Messages":
        """Subscribe, and return an asynchronous iterator over what comes under `topic_filter`.

        A message is acknowledged when the loop's body asks for the next one, or calls its
        `acknowledge()`. What waits counts in the inbox's bound; the broker sends no more than its
        in-flight window (20 or so) that is not acknowledged, so who leaves the loop early
        acknowledges by hand, or goes on later with another `messages` of the same filter. Several
        tasks that take from the same filter share its messages; where a task has ended amid one,
        another gets it. Each filter gets its own. The iterator ends when the client has left.
        Raise InvalidTopic, UsageError.
        """
        topic_filter = self._checked_filter(topic_filter, qos)
        queue = self._queues.get(topic_filter)
        if queue is None:
            queue = self._queues[topic_filter] = _Queue(self._desk)
        if not self._is_asked(topic_filter, qos):
            self._subscribe(topic_filter, queue.take_in, qos, True)
        return Messages(queue, self._driver)

    def _is_asked(self, topic_filter: str, qos: int) -> bool:
        """Return True if a subscription stands, or was asked for: to ask once more would have the
        broker send what it has kept (retained) once more.
        """
        inbox = self._connection.inbox
        if inbox is None:
            return False
        with inbox.lock:
            one = inbox.subscriptions.get(topic_filter)
            if one is None or one.handler is None or one.qos != qos:
                return False
            return one.granted or one.unanswered > 0 or not self._connection.link.up

    def unsubscribe(self, topic_filter: str) -> None:
        """Forget a subscription, here and at the broker; its iterators end. Raise InvalidTopic."""
        topic_filter = self._checked_filter(topic_filter, 0)
        self._unsubscribe(topic_filter)
        queue = self._queues.pop(topic_filter, None)
        if queue is not None:
            queue.end()
            self._driver.look()

    async def flush(self, timeout_s: float = 30) -> bool:
        """Wait until everything is acknowledged: then it is safe to sleep deeply.

        Return True if it is within `timeout_s` seconds, False at once where only parked messages
        are left, or the client was not started.
        """
        connection = self._connection
        outbox = connection.outbox
        timeout_ms = milliseconds(timeout_s, "timeout_s")
        await self._driver.wait_until(lambda: outbox.count <= connection.parked, timeout_ms)
        await self._driver.sync()
        return not outbox.count


class Delivery(Awaitable):
    """A message on its way out: what `publish` returns.

    `await delivery` waits until the broker has acknowledged it, and gives True; False if it was
    dropped or parked, or the client has left. `message` is the `securemqtt.Delivery` itself.
    """

    def __init__(self, message: "messages.Delivery", driver: Driver) -> None:
        self.message = message
        self._driver = driver

    def __repr__(self) -> str:
        return repr(self.message)

    @property
    def acknowledged(self) -> bool:
        """Whether the broker has taken it over."""
        return self.message.acknowledged

    @property
    def dropped(self) -> bool:
        """Whether it was given up."""
        return self.message.dropped

    @property
    def parked(self) -> bool:
        """Whether it was put aside, since the broker ends the connection at it: see `error`."""
        return self.message.parked

    @property
    def error(self) -> "Exception | None":
        """Why it is parked."""
        return self.message.error

    async def wait(self, timeout_s: float = 30) -> bool:
        """As `await`, for at most `timeout_s` seconds; return True if it is acknowledged then."""
        return await self._driver.outcome(self.message, milliseconds(timeout_s, "timeout_s"))

    async def _outcome(self) -> bool:
        return await self._driver.outcome(self.message, None)


class Messages:
    """What comes under one filter, message by message: what `Client.messages` returns."""

    def __init__(self, queue: "_Queue", driver: Driver) -> None:
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
        task = task or asyncio.current_task()
        queue.done(task, self)
        while not queue.ready():
            if not await self._driver.wait_until(queue.ready, None):
                self._driver.check_started()
                raise StopAsyncIteration
        message = queue.take(task, self)
        if message is None:
            raise StopAsyncIteration
        return message


class _Desk:
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
            self._bytes_qos0 += size
        self._holders[message] = self._holders.get(message, 0) + 1
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


class _Queue:
    """What has come under one filter, and which task is at what."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._waiting: "list[Message]" = []
        # By which task, and through which iterator.
        self._taken: "list[tuple[Any, Messages, Message]]" = []
        self._ended = False

    def take_in(self, message: "Message") -> None:
        """Have a message wait: the handler of the subscription."""
        if self._desk.take_in(message):
            self._waiting.append(message)

    def ready(self) -> bool:
        """Return True if there is a message to take, or none will ever come."""
        if self._waiting or self._ended:
            return True
        for entry in self._taken:  # noqa: SIM110  (a generator would be garbage in each turn)
            if entry[0].done():
                return True
        return False

    def take(self, task: "Any", iterator: "Messages") -> "Message | None":
        """Return the next message, for a task; None if there will be none.

        First what a task has ended amid.
        """
        given_back = [entry for entry in self._taken if entry[0].done()]
        if given_back:
            self._taken = [entry for entry in self._taken if entry not in given_back]
            self._waiting[:0] = [entry[2] for entry in given_back]
        if not self._waiting:
            return None
        message = self._waiting.pop(0)
        self._taken.append((task, iterator, message))
        return message

    def done(self, task: "Any", iterator: "Messages") -> None:
        """Note that a task is through with what it took; or, where it has come to its end since,
        as each line that is typed at a prompt does, that it took through this iterator.
        """
        for entry in self._taken:
            if entry[0] is task or (entry[1] is iterator and ended_well(entry[0])):
                self._taken.remove(entry)
                self._desk.done(entry[2])
                return

    def end(self) -> None:
        """Let go of what waits, or was taken: nobody wants it any more."""
        self._ended = True
        given_up = [entry[2] for entry in self._taken] + self._waiting
        self._taken, self._waiting = [], []
        for message in given_up:
            self._desk.done(message)
