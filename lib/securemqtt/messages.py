"""A message on its way out, one that has come in, and the bytes of a payload."""

import json

from .log import quoted
from .platform import const

TYPE_CHECKING = const(False)

_HALF = "half a surrogate pair, which UTF-8 cannot say"

if TYPE_CHECKING:
    from typing import Any, Protocol

    class Waiter(Protocol):
        """What can wait for a delivery: the connection."""

        def wait_for(self, delivery: "Delivery | None", timeout_s: float) -> bool:
            """Serve the network until `delivery` is acknowledged or dropped; None: until all are.

            Return True if it is acknowledged.
            """

    class Receiver(Protocol):
        """Where a message has come in: the inbox."""

        def acknowledge(self, message: "Message") -> None:
            """Have a message acknowledged, once those that came before it are."""


class Message:
    """What a handler gets: topic and payload, and how it was sent.

    `topic` is a str, `payload` bytes; `qos` is what it came with, `retain` True if the broker had
    kept it, `dup` if it may have come before. `text()` and `json()` read the payload.
    """

    __slots__ = (
        "connection_number",
        "done",
        "dup",
        "packet_id",
        "payload",
        "qos",
        "receiver",
        "retain",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
        packet_id: int = 0,
        connection_number: int = 0,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.dup = dup
        self.packet_id = packet_id
        self.connection_number = connection_number  # an acknowledgement is for its own only
        self.done = False  # whether it can be acknowledged
        self.receiver: "Receiver | None" = None  # None for one that did not come in

    def acknowledge(self) -> None:
        """Tell the broker that this message is dealt with, and need not be sent again.

        For subscriptions with acknowledge="later"; others do it when their handler returns. Any
        thread may call it, once or more often. Returns at once; acknowledgements go out in the
        order in which the messages came ([MQTT-4.6.0-2]).
        """
        if self.receiver is not None:
            self.receiver.acknowledge(self)

    def __repr__(self) -> str:
        more = (", retained" if self.retain else "") + (", dup" if self.dup else "")
        return "<{} {}: {} bytes, QoS {}{}>".format(
            type(self).__name__, quoted(self.topic), len(self.payload), self.qos, more
        )

    def text(self) -> str:
        """Return the payload as text. Raise ValueError if it is not UTF-8."""
        return _from_utf8(self.payload)

    def json(self) -> "Any":
        """Return what the payload says in JSON. Raise ValueError if it is none, or cut off."""
        return decode(self.payload)


class Delivery:
    """A message on its way out: what `publish` returns.

    `acknowledged` becomes True when the broker has taken it over (PUBACK for QoS 1, PUBCOMP for
    QoS 2, written to the network for QoS 0); `dropped` when it was given up: the outbox was full,
    `expires_s` had passed, or a newer one took its place. `parked` is True while it was put aside
    because the broker ends the connection at it; `error` then says so.
    """

    __slots__ = (
        "acknowledged",
        "awaited",
        "dropped",
        "error",
        "expires_ms",
        "next",
        "payload",
        "qos",
        "retain",
        "stored",
        "topic",
        "waiter",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        expires_ms: "int | None" = None,
        waiter: "Waiter | None" = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.expires_ms = expires_ms  # on the clock of platform.now_ms
        self.acknowledged = False
        self.dropped = False
        self.awaited = False  # whether somebody waits for this one, and is to be woken
        self.stored = 0  # its number in the journal of a durable outbox; -1: sent, and not there
        self.next: "Delivery | None" = None  # behind it in the outbox
        self.error: "Exception | None" = None  # why it is parked
        self.waiter = waiter  # None for a message of the library's own, which is in no outbox

    def __repr__(self) -> str:
        state = "acknowledged" if self.acknowledged else "dropped" if self.dropped else "pending"
        if self.parked:
            state = "parked"
        return "<{} {}: {} bytes, QoS {}, {}>".format(
            type(self).__name__, quoted(self.topic), len(self.payload), self.qos, state
        )

    @property
    def parked(self) -> bool:
        """Whether it was put aside, since the broker ends the connection at it: see `error`."""
        return self.error is not None and not (self.acknowledged or self.dropped)

    def wait(self, timeout_s: float = 30) -> bool:
        """Serve the network until the broker has acknowledged this message.

        Return True if it has within `timeout_s` seconds, False at once if it was dropped or
        parked. Raise UsageError if that is no number of seconds.
        """
        if self.waiter is None:
            return self.acknowledged
        return self.waiter.wait_for(self, timeout_s)


# Payloads


def encode(payload: object) -> bytes:
    """Return the bytes of a payload: bytes as they are, str as UTF-8, anything else as JSON.

    Raise InvalidPayload if JSON cannot say it.
    """
    if isinstance(payload, bytes):
        return payload
    try:
        if isinstance(payload, str):
            return _as_utf8(payload)
        if isinstance(payload, (bytearray, memoryview)):
            return bytes(payload)
        _check_json(payload)
        return json.dumps(payload).encode()
    except (TypeError, ValueError, RuntimeError) as error:  # the last: nested too deep
        from .errors import InvalidPayload

        raise InvalidPayload("the payload is neither bytes nor str nor JSON", str(error))


def decode(payload: bytes) -> "Any":
    """Return what bytes say in JSON. Raise ValueError if that is none, or cut off."""
    text = _from_utf8(payload)
    try:
        value = json.loads(text)
    except RuntimeError:  # RecursionError is one: it is nested more deeply than this stack is
        raise ValueError("JSON that is nested too deeply")
    # Before a second element: what is cut off takes that into itself, and the list has but one.
    if _cut_off_passes() and len(json.loads("[" + text + ",0]")) != 2:
        raise ValueError("JSON that is cut off")
    return value


def _cut_off_passes() -> bool:
    """Return True if json takes `{"a": 1` for whole, as MicroPython 1.25's does."""
    try:
        json.loads("{")
    except ValueError:
        return False
    return True


def _check_json(value: "Any") -> None:
    """Raise TypeError or ValueError for what JSON cannot say.

    CPython's encoder lets NaN pass, MicroPython's anything at all.
    """
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_json(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, bool)):
                raise TypeError("a key that is no str: " + quoted(key))
            _check_json(key)
            _check_json(item)
    elif isinstance(value, float):
        if value - value != 0:  # so it is NaN or infinite
            raise ValueError("{} is not in JSON".format(value))
    elif isinstance(value, str):
        _as_utf8(value)
    elif value is not None and not isinstance(value, (int, bool)):
        raise TypeError(quoted(value) + " is not in JSON")


# UTF-8, which CPython keeps to; MicroPython lets halves of surrogate pairs pass.


def has_half_pair(content: bytes) -> bool:
    """Return True if there is half a surrogate pair in UTF-8 that was let have one."""
    at = content.find(b"\xed")
    while at >= 0:
        if content[at + 1] >= 0xA0:
            return True
        at = content.find(b"\xed", at + 1)
    return False


def _as_utf8(text: str) -> bytes:
    """Return text in UTF-8. Raise ValueError if that cannot say it."""
    content = text.encode()
    if has_half_pair(content):
        raise ValueError(_HALF)
    return content


def _from_utf8(content: bytes) -> str:
    """Return what bytes say in UTF-8. Raise ValueError if they are none."""
    text = str(content, "utf-8")
    if has_half_pair(content):
        raise ValueError(_HALF)
    return text
