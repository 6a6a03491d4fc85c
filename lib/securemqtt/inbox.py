"""What comes in: messages that wait for their handlers, and handing them out.

A board that only sends does without this module: it is loaded with the first subscription, handler
or incoming message, and then kept.
"""

from .log import log, log_exception, printable
from .platform import INBOX_BYTES, const, now_ms

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .messages import Message
    from .platform import Lock
    from .transport.base import Link

    class Owner(Protocol):
        """Whose inbox it is: the connection."""

        lock: Lock
        counters: dict[str, int]
        last_error: Exception | None

        def wake(self) -> None:
            """Have the loop look at once at what there is to do."""


# Messages that wait for `wait` or `poll`: above so many, QoS 0 is dropped and QoS 1 left to be
# redelivered; both are counted. Above INBOX_BYTES, each with so much for itself, QoS 0 is dropped;
# how many of QoS 1 and 2 there may be is bounded by the broker's own window.
_INBOX_MESSAGES = const(1000)
_MESSAGE_BYTES = const(128)


def matches(topic_filter: str, topic: str) -> bool:
    """Return True if `topic` falls under `topic_filter`.

    Wildcards at the start do not match `$…` ([MQTT-4.7.2-1]).
    """
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

    __slots__ = ("granted", "handler", "qos", "unanswered")

    def __init__(self) -> None:
        self.handler: "Callable[[Message], None] | None" = None
        self.qos = 0  # -1: unsubscribed, and kept until the broker has confirmed that
        self.granted = False
        self.unanswered = 0  # requests for it that the broker has not answered yet


class Inbox:
    """What there is for a client's handlers: subscriptions, messages, changes of state.

    The connection's lock guards what both sides touch: the link puts messages in, `wait` and `poll`
    hand them out in the program's thread.
    """

    def __init__(self, owner: "Owner") -> None:
        self._owner = owner
        self.lock = owner.lock
        self.subscriptions: "dict[str, Subscription]" = {}
        self.requests: "list[tuple[str, int]]" = []  # to be sent; QoS -1: unsubscribe
        self.messages: "list[Message]" = []
        self._bytes = 0
        self._handled: "list[Message]" = []  # to be acknowledged
        self._states: "list[str]" = []
        self._errors: "list[Exception]" = []
        self.on_state: "Callable[[str], None] | None" = None
        self.on_error: "Callable[[Exception], None] | None" = None
        self._busy = False

    def add(self, topic_filter: str) -> Subscription:
        """Add a subscription; with the lock held."""
        subscription = self.subscriptions[topic_filter] = Subscription()
        return subscription

    def received(self, message: "Message") -> bool:
        """Take a message in; return False if too many wait: it is refused, and counted."""
        with self.lock:
            size = self._bytes + len(message.payload) + _MESSAGE_BYTES
            full = size > INBOX_BYTES and self.messages and not message.qos
            if full or len(self.messages) >= _INBOX_MESSAGES:
                self._owner.counters["refused"] += 1
                return False
            self._bytes = size
            self._owner.counters["received"] += 1
            self.messages.append(message)
            self.lock.notify_all()
        return True

    def oversized(self, topic: str, size_bytes: int) -> None:
        """Count a message that came in and was thrown away, and say so."""
        self._owner.counters["oversized"] += 1
        what = "a message of {} bytes on {} is larger than max_packet_bytes: thrown away"
        log("warning", what.format(size_bytes, printable(topic)))

    def subscribed(self, topic_filter: str, granted: bool) -> None:
        """Note SUBACK."""
        with self.lock:
            subscription = self._answered(topic_filter)
            if subscription is not None:
                subscription.granted = granted and subscription.qos >= 0
        if not granted:
            from .errors import SubscriptionRefused

            what = "the broker refused the subscription to " + printable(topic_filter)
            self._owner.last_error = SubscriptionRefused(what)
            log("warning", str(self._owner.last_error))

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
            self._states.append(state)

    def new_error(self, error: Exception) -> None:
        """Have an error told to the handler of errors in the next `wait` or `poll`."""
        with self.lock:
            if self.on_error:
                self._errors.append(error)
            self.lock.notify_all()

    def has_news(self) -> bool:
        """Return True if there is something to hand out, and nobody does."""
        return bool(self.messages or self._states or self._errors) and not self._busy

    def hand_out(self, deadline_ms: "int | None") -> None:
        """Call the handlers for what is there, until `deadline_ms`, but for one message at least.

        None: for all that is there now.
        """
        # A handler that calls wait(): the network is served, the next message waits its turn.
        with self.lock:
            if self._busy:
                return
            self._busy = True
        left = len(self.messages)
        try:
            while self._states:
                self._call(self.on_state, self._states.pop(0))
            while self._errors:
                self._call(self.on_error, self._errors.pop(0))
            while self.messages:
                self._hand_out_one()
                left -= 1
                if (left <= 0) if deadline_ms is None else now_ms() >= deadline_ms:
                    break
        finally:
            self._busy = False

    def _hand_out_one(self) -> None:
        with self.lock:
            message = self.messages.pop(0)
            self._bytes -= len(message.payload) + _MESSAGE_BYTES
        try:
            for topic_filter, subscription in list(self.subscriptions.items()):
                if matches(topic_filter, message.topic):
                    self._call(subscription.handler, message)
        except BaseException:  # interrupted, by Ctrl-C say: it was not handled, and waits again
            with self.lock:
                self.messages.insert(0, message)
                self._bytes += len(message.payload) + _MESSAGE_BYTES
            raise
        if message.qos:
            with self.lock:
                self._handled.append(message)
            self._owner.wake()

    def _call(self, handler: "Callable[[Any], None] | None", what: object) -> None:
        try:
            if handler is not None:
                handler(what)
        except Exception as error:  # noqa: BLE001  (a user's handler may raise anything)
            log_exception(error)
            try:
                if self.on_error is not None:
                    self.on_error(error)
            except Exception as again:  # noqa: BLE001  (so may this one)
                log_exception(again)

    # The loop

    def answer(self, link: "Link") -> None:
        """Acknowledge what was handled, and send what was asked for."""
        # One at a time: where a board's memory runs out, the rest is still to be done.
        while self._handled:
            link.acknowledge(self._handled[0])
            with self.lock:
                self._handled.pop(0)
        while self.requests:
            link.request(*self.requests[0])
            with self.lock:
                self.requests.pop(0)
