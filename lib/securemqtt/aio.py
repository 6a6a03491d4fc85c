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
from .face import Face
from .platform import const, now_ms, temporary
from .platform.aio import Awaitable
from .queues import Desk, Messages, Queue

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Unpack  # the type checker's own: 3.10 has none in typing

    from . import messages
    from .connection import Connection
    from .options import ClientOptions

__all__ = ["Client", "Delivery", "Messages"]

# How long leaving may take to deliver what is queued, where the block was cancelled or interrupted.
_INTERRUPTED_S = const(2)
# After so many messages `publish` lets other tasks run, this client's own among them.
_TURN_MESSAGES = const(16)


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
        self._queues: "dict[str, Queue]" = {}
        self._desk = Desk(self._connection)
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
        await self._driver.settled()
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

        Never raises for the network's sake. Raise OutboxInUse, RuntimeError without a loop,
        UsageError while another task is leaving.
        """
        self._driver.check_loop()
        self._driver.check_staying()
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
        await self._driver.settled()
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
        failed = kind is None or issubclass(kind, Exception)
        await self.disconnect(10 if failed else _INTERRUPTED_S)

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
        self._driver.check()
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
        self._driver.check()
        topic_filter = self._checked_filter(topic_filter, qos)
        queue = self._queues.get(topic_filter)
        if queue is None:
            queue = self._queues[topic_filter] = Queue(self._desk)
        if not self._is_asked(topic_filter, qos):
            self._connection.make_inbox().queues = True
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
        self._driver.check()
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
