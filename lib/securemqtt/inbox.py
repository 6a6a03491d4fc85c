"""What comes in: messages that wait for their handlers, and handing them out.

A board that only sends does without this module: it is loaded with the first subscription, handler
or incoming message, and then kept.
"""

from .early import Early, size_of
from .log import log, log_exception, printable
from .platform import HAND_OUT_MS, INBOX_BYTES, INBOX_QOS0_BYTES, const, now_ms
from .protocol.received import Received

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .messages import Message
    from .platform import Lock
    from .settings import Settings
    from .transport.base import Link

    class Owner(Protocol):
        """Whose inbox it is: the connection."""

        settings: Settings
        lock: Lock
        counters: dict[str, int]
        last_error: Exception | None
        session_present: bool  # whether the broker has kept the session of this connection
        moment_ms: int  # since when it stands
        inherited: bool  # whether this process is a forked child, and the client its parent's

        def has_left(self) -> bool:
            """Return True if the client has left in order."""

        def wake(self) -> None:
            """Have the loop look at once at what there is to do."""

        def wait_until(self, condition: Callable[[], Any], timeout_ms: int) -> bool:
            """Serve the network until `condition` holds."""


_TOLD = const(20)  # first errors, and last states, that wait in a program that never calls `wait`

_DROPPING = (
    "messages come faster than handlers take them: the newest with QoS 0, or in a clean session, "
    "are dropped and counted (stats, dropped_in). What to do: call wait or poll more often, make "
    "handlers quicker, or ask for less"
)
_UNHANDLED = (
    "a message on {} has no handler: acknowledged and dropped, others like it counted only (stats, "
    "unhandled). What to do: subscribe before connecting, or within early_s of it; a subscription "
    "that an earlier program has left at the broker ends with unsubscribe"
)


def matches(topic_filter: str, topic: str) -> bool:
    """Return True if `topic` falls under `topic_filter`.

    Wildcards at the start do not match `$…` ([MQTT-4.7.2-1]). Of a shared subscription,
    `$share/group/filter` (MQTT 5.0, section 4.8.2, as brokers have it for 3.1.1, too), the filter
    alone counts.
    """
    if topic_filter[:7] == "$share/":
        topic_filter = topic_filter.split("/", 2)[-1]
    if topic_filter == topic:
        return True
    if topic[:1] == "$" and topic_filter[:1] in "+#":
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or (level != "+" and level != levels[index]):
            return False
    return len(wanted) == len(levels)


class Subscription:
    """One topic filter: who handles it, and what the broker knows of it."""

    __slots__ = ("granted", "handler", "later", "qos", "unanswered")

    def __init__(self) -> None:
        self.handler: "Callable[[Message], None] | None" = None
        self.later = False  # whether the program itself acknowledges what comes
        self.qos = 0  # -1: unsubscribed, and kept until the broker has confirmed that
        self.granted = False
        self.unanswered = 0  # requests for it that the broker has not answered yet


class Inbox:
    """What there is for a client's handlers: subscriptions, messages, changes of state.

    The connection's lock guards what both sides touch: the link puts messages in, `wait` and `poll`
    hand them out in the program's thread. Reading never stops because too much waits: what is too
    much of QoS 0, or in a clean session, is dropped; else left to the broker, which sends it again
    on the next connection. That one is made as soon as there is room: see `wants_catch_up`.
    """

    def __init__(self, owner: "Owner") -> None:
        self._owner = owner
        self.lock = owner.lock
        self.subscriptions: "dict[str, Subscription]" = {}
        self.requests: "list[tuple[str, int]]" = []  # to be sent; QoS -1: unsubscribe
        self.messages: "list[Message]" = []
        self._received = Received(not owner.settings.skip_redelivered)
        self._bytes = 0  # of QoS 1 and 2, until they are handled
        self._bytes_qos0 = 0  # of QoS 0, until they are handed out
        self._dropping = False  # QoS 0, since so much of it waits
        self._left = 0  # messages of this connection that are left to the next one
        self._early = Early()
        self._unhandled_told = False
        self._confirmed = 0  # so many of our acknowledgements have arrived for certain
        self._states: "list[str]" = []
        self._errors: "list[Exception]" = []
        self.on_state: "Callable[[str], None] | None" = None
        self.on_error: "Callable[[Exception], None] | None" = None
        self.queues = False  # whether the handlers are queues of ours, which raise MemoryError only
        self._busy = False
        self.begin(owner.session_present)

    def add(self, topic_filter: str) -> Subscription:
        """Add a subscription; with the lock held."""
        subscription = self.subscriptions[topic_filter] = Subscription()
        return subscription

    # What the link tells

    def begin(self, session_present: bool, in_doubt: bool = False) -> None:
        """Note that a connection stands, and whether the broker has kept the session."""
        owner = self._owner
        with self.lock:
            lost = 0 if session_present else self._left
            owner.counters["dropped_in"] += lost
            self._left = 0
            self._received.begin(session_present, in_doubt)
            early_ms = int(owner.settings.early_s * 1000)
            self._early.begin(owner.moment_ms + early_ms if session_present else 0)
        if lost:
            what = "{} messages came faster than handlers took them, and the broker has no kept "
            log("warning", (what + "session from which to send them again: lost").format(lost))

    def received(self, message: "Message", oversized_bytes: int = 0) -> None:
        """Take a message in that has come; one of `oversized_bytes` has no payload."""
        with self.lock:
            what = self._take(message, oversized_bytes)
        if what:
            log("warning", what)

    def _take(self, message: "Message", oversized_bytes: int) -> str:
        """Take a message in; return what is to be said of it, "" for nothing."""
        counters = self._owner.counters
        size = size_of(message)
        if message.qos:
            if not self._received.is_new(message):
                if message.done:
                    counters["not_run_again"] += 1
                return ""
            full = self._left or (self._bytes and self._bytes + size > INBOX_BYTES)
            if full and not oversized_bytes and not self._owner.settings.clean_session:
                self._left += 1
                return ""
            if full or oversized_bytes:
                self._received.drop(message)
        else:
            full = self._bytes_qos0 and self._bytes_qos0 + size > INBOX_QOS0_BYTES
        if oversized_bytes:
            counters["oversized"] += 1
            what = "a message of {} bytes on {} is larger than max_packet_bytes: thrown away"
            return what.format(oversized_bytes, printable(message.topic))
        if full:
            counters["dropped_in"] += 1
            told, self._dropping = self._dropping, True
            return "" if told else _DROPPING
        message.receiver = self
        self.messages.append(message)
        if message.qos:
            try:
                self._received.keep(message)
            except BaseException:  # no memory: as if it had not come, it comes again
                self.messages.pop()
                raise
            self._bytes += size
        else:
            self._bytes_qos0 += size
        counters["received"] += 1
        self.lock.notify_all()
        return ""

    def released(self, packet_id: int) -> None:
        """Note PUBREL for a QoS 2 message."""
        with self.lock:
            self._received.released(packet_id)

    def subscribed(self, topic_filter: str, granted: bool) -> None:
        """Note SUBACK."""
        with self.lock:
            subscription = self._answered(topic_filter)
            if subscription is not None:
                subscription.granted = granted and subscription.qos >= 0
        if not granted:
            from .errors import SubscriptionRefused

            what = "the broker refused the subscription to " + printable(topic_filter)
            self._owner.last_error = error = SubscriptionRefused(what)
            log("warning", str(error))
            self.new_error(error)

    def unsubscribed(self, topic_filter: str) -> None:
        """Note UNSUBACK."""
        with self.lock:
            subscription = self._answered(topic_filter)
            if subscription is not None and subscription.qos < 0:
                del self.subscriptions[topic_filter]

    def _answered(self, topic_filter: str) -> "Subscription | None":
        """Return a subscription if this is the answer to what was asked for it last."""
        subscription = self.subscriptions.get(topic_filter)
        if subscription is None:
            return None
        subscription.unanswered -= 1
        return subscription if subscription.unanswered <= 0 else None

    def new_state(self, state: str) -> None:
        """Note a change of the connection's state for the handler; with the lock held."""
        if self.on_state:
            if len(self._states) >= _TOLD:
                self._states.pop(0)
            self._states.append(state)

    def new_error(self, error: Exception) -> None:
        """Have an error told to the handler of errors in the next `wait` or `poll`."""
        with self.lock:
            if self.on_error and len(self._errors) < _TOLD:
                self._errors.append(error)
            self.lock.notify_all()

    # Handing out

    def has_news(self) -> bool:
        """Return True if there is something to hand out, and nobody does."""
        return bool(self.messages or self._states or self._errors) and not self._busy

    def hand_out(self, deadline_ms: "int | None") -> None:
        """Call the handlers for what is there, until `deadline_ms`, but for one message at least.

        None: for all there is now. On a board the network has its turn in between: brokers drop.
        """
        busy = True
        try:
            with self.lock:
                busy, self._busy = self._busy, True
            if busy:  # a handler that calls wait(): the next message waits its turn
                return
            had_left = self._owner.has_left()
            left = len(self.messages)
            served_ms = now_ms()
            while self._states:
                self._call(self.on_state, self._states.pop(0))
            while self._errors:
                self._call(self.on_error, self._errors.pop(0))
            while self.messages:
                self._hand_out_one()
                left -= 1
                now = now_ms()
                if (left <= 0) if deadline_ms is None else now >= deadline_ms:
                    break
                if self._owner.has_left() and not had_left:
                    break  # what is left comes again on the next connection
                if HAND_OUT_MS and now - served_ms >= HAND_OUT_MS:
                    self._owner.wait_until(self.has_news, 0)
                    served_ms = now_ms()
        finally:
            if not busy:
                self._busy = False

    def _hand_out_one(self) -> None:
        message = None
        later = handled = False
        try:
            with self.lock:
                message = self.messages[0]
                to_be_called = [
                    subscription
                    for topic_filter, subscription in self.subscriptions.items()
                    if subscription.handler is not None and matches(topic_filter, message.topic)
                ]
                self.messages.pop(0)
                self._bytes_qos0 -= 0 if message.qos else size_of(message)
                self._dropping = self._dropping and bool(self.messages)
                if not to_be_called and message.qos and self._early.may_wait(message, now_ms()):
                    self._early.keep(message)
                    self._bytes -= size_of(message)
                    return
            for subscription in to_be_called:
                later = later or subscription.later
                self._call(subscription.handler, message, self.queues)
            handled = True
            if not to_be_called:
                self._unhandled(message)
            elif message.qos and not later:
                self.acknowledge(message)
        except BaseException:  # interrupted, by Ctrl-C say, or there was no memory
            if message is not None and not self._owner.inherited:
                if not handled:
                    self._put_back(message)
                elif not later:
                    self.acknowledge(message)
            raise

    def _put_back(self, message: "Message") -> None:
        """Have a message that was not handled wait again, wherever that was interrupted."""
        with self.lock:
            if message not in self.messages and message not in self._early.messages:
                self.messages.insert(0, message)
            self._bytes_qos0 = sum(size_of(one) for one in self.messages if not one.qos)

    def acknowledge(self, message: "Message", handled: bool = True) -> None:
        """Have a message acknowledged, once those that came before it are; any thread may call."""
        with self.lock:
            if message.qos and not message.done:
                self._bytes -= size_of(message)
                self._received.done(message, handled)
        self._owner.wake()

    def _call(self, handler: "Any", what: object, queued: bool = False) -> None:
        try:
            if handler is not None:
                handler(what)
        except Exception as error:
            if queued:
                raise
            log_exception(error)  # a user's handler may raise anything
            try:
                if self.on_error is not None:
                    self.on_error(error)
            except Exception as again:  # noqa: BLE001  (so may this one)
                log_exception(again)

    # What no subscription of the program's is for

    def hand_over_early(self, topic_filter: str) -> None:
        """Have what came before this subscription was made be handed out first; lock held."""
        found = self._early.take(lambda message: matches(topic_filter, message.topic))
        self._bytes += sum(size_of(message) for message in found)
        self.messages[:0] = found

    def _end_early(self) -> None:
        """Give up what nobody has subscribed to in time."""
        while True:
            with self.lock:
                message = self._early.overdue(now_ms())
                if message is None:
                    return
                self._received.done(message, False)  # where memory runs out, it stays
                self._early.remove(message)
            self._unhandled(message)

    def _unhandled(self, message: "Message") -> None:
        """Acknowledge, or drop, what there is no handler for; say so for the first one."""
        self.acknowledge(message, False)
        with self.lock:
            self._owner.counters["unhandled"] += 1
            told, self._unhandled_told = self._unhandled_told, True
        if not told:
            log("warning", _UNHANDLED.format(printable(message.topic)))

    # The loop

    def answer(self, link: "Link", leaving: bool = False) -> None:
        """Acknowledge what was handled, and send what was asked for."""
        if leaving and self.subscriptions:
            self._early.end()
        if self._early.messages:
            self._end_early()
        session = link.session
        # One at a time: where a board's memory runs out, the rest is still to be done.
        while True:
            with self.lock:
                message = self._received.next()
            if message is None:
                break
            link.acknowledge(message)
            with self.lock:
                self._received.acknowledged(session.answered())
        if session.confirmed != self._confirmed:
            self._confirmed = session.confirmed
            with self.lock:
                self._received.confirmed(session.confirmed)
        while self.requests:
            link.request(*self.requests[0])
            with self.lock:
                self.requests.pop(0)

    def wants_catch_up(self) -> bool:
        """Return True if messages were left to the next connection, and there is room for them."""
        return self._left > 0 and self._bytes * 2 <= INBOX_BYTES
