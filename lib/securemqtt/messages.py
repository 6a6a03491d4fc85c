"""What comes in, and how it gets to its handlers: a board that only sends does without this
module.
"""

import json

from ._compat import INBOX_BYTES, TYPE_CHECKING, const, now_ms, print_exception, wake

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .backends.contract import Link
    from .client import Client

# Messages that wait for `wait` or `poll`: above so many, QoS 0 is dropped and QoS 1 left to be
# redelivered; both are counted. Above INBOX_BYTES, each with so much for itself, QoS 0 is dropped;
# how many of QoS 1 and 2 there may be is bounded by the broker's own window.
_INBOX_MESSAGES = const(1000)
_MESSAGE_BYTES = const(128)


class Message:
    """What a handler gets: `.topic` (str), `.payload` (bytes), `.qos`, `.retain`, `.dup`, and the
    payload as `.text()` or `.json()`.
    """

    __slots__ = ("dup", "epoch", "packet_id", "payload", "qos", "retain", "topic")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        dup: bool,
        packet_id: int,
        epoch: int,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.dup = dup
        self.packet_id = packet_id
        self.epoch = epoch

    def text(self) -> str:
        """Return the payload as text; ValueError if it is not UTF-8."""
        return str(self.payload, "utf-8")

    def json(self) -> "Any":
        """Return what the payload says in JSON; ValueError if it is none."""
        return json.loads(self.payload)


def matches(topic_filter: str, topic: str) -> bool:
    """Return True if `topic` falls under `topic_filter`; wildcards at the start do not match `$…`
    ([MQTT-4.7.2-1]).
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


class Incoming:
    """What there is for a client's handlers: subscriptions, messages that wait, and changes of
    state.

    The client's lock guards what both sides touch: the link puts messages in, `wait` and `poll`
    hand them out in the program's thread.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        # topic filter -> [handler, qos, whether the broker has granted it, how many requests for it
        # are not answered]. One that was unsubscribed, with None and -1, stays until the broker has
        # confirmed that.
        self.subscriptions: "dict[str, list[Any]]" = {}
        # to be sent: topic filters and their QoS, -1 to unsubscribe
        self.requests: "list[tuple[str, int]]" = []
        self.messages: "list[Message]" = []
        self._bytes = 0
        self._handled: "list[Message]" = []  # to be acknowledged
        self._states: "list[str]" = []
        self.on_state: "Callable[[str], None] | None" = None
        self.on_error: "Callable[[Exception], None] | None" = None
        self._busy = False

    def put(self, message: Message) -> bool:
        """See `link_message` in backends/contract.py."""
        client = self._client
        with client._lock:
            size = self._bytes + len(message.payload) + _MESSAGE_BYTES
            if len(self.messages) >= _INBOX_MESSAGES or (
                size > INBOX_BYTES and self.messages and not message.qos
            ):
                client._outbox.dropped += 1
                return False
            self._bytes = size
            client._stats["received"] += 1
            self.messages.append(message)
            client._lock.notify_all()
        return True

    def new_state(self, state: str) -> None:
        """Note a change of the client's state for the handler, if there is one; with the lock
        held.
        """
        if self.on_state:
            self._states.append(state)

    def has_news(self) -> bool:
        """Return True if there is something to hand out, and nobody does."""
        return bool(self.messages or self._states) and not self._busy

    def hand_out(self, deadline_ms: "int | None") -> None:
        """Call the handlers for what is there, until `deadline_ms`, but for one message at least;
        with None for all that is there now.
        """
        # a handler that calls wait(): the network is served, the next message waits its turn
        if self._busy:
            return
        left = len(self.messages)
        self._busy = True
        try:
            while self._states:
                self._call(self.on_state, self._states.pop(0))
            while self.messages:
                self._hand_out_one()
                left -= 1
                if (left <= 0) if deadline_ms is None else now_ms() >= deadline_ms:
                    break
        finally:
            self._busy = False

    def _hand_out_one(self) -> None:
        client = self._client
        with client._lock:
            message = self.messages.pop(0)
            self._bytes -= len(message.payload) + _MESSAGE_BYTES
        for topic_filter, subscription in list(self.subscriptions.items()):
            if matches(topic_filter, message.topic):
                self._call(subscription[0], message)
        if message.qos:
            with client._lock:
                self._handled.append(message)
            wake(client)

    def _call(self, handler: "Callable[[Any], None] | None", what: object) -> None:
        try:
            if handler:
                handler(what)
        except Exception as error:  # noqa: BLE001  (whatever a user's handler raises is reported, and the loop goes on)
            print_exception(error)
            if self.on_error:
                self.on_error(error)

    def answer(self, link: "Link") -> None:
        """Acknowledge what was handled, and send what was asked for."""
        with self._client._lock:
            handled, self._handled = self._handled, []
            requests, self.requests = self.requests, []
        for message in handled:
            link.ack(message)
        for topic_filter, qos in requests:
            link.request(topic_filter, qos)


def incoming(client: "Client") -> Incoming:
    """Return what a client has for its handlers, made with the first use."""
    with client._lock:
        if client._incoming is None:
            client._incoming = Incoming(client)
        return client._incoming
