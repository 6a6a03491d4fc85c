"""A message on its way out, and one that has come in."""

from .log import quoted
from .platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any, Protocol

    class Waiter(Protocol):
        """What can wait for a delivery: the connection."""

        def wait_for(self, delivery: "Delivery | None", timeout_s: float) -> bool:
            """Serve the network until `delivery` is acknowledged or dropped; None: until all are.

            Return True if it is acknowledged.
            """


class Message:
    """What a handler gets: topic and payload, and how it was sent.

    `topic` is a str, `payload` bytes; `qos` is what it came with, `retain` True if the broker had
    kept it, `dup` if it may have come before. `text()` and `json()` read the payload.
    """

    __slots__ = ("connection_number", "dup", "packet_id", "payload", "qos", "retain", "topic")

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

    def __repr__(self) -> str:
        more = (", retained" if self.retain else "") + (", dup" if self.dup else "")
        return "<{} {}: {} bytes, QoS {}{}>".format(
            type(self).__name__, quoted(self.topic), len(self.payload), self.qos, more
        )

    def text(self) -> str:
        """Return the payload as text. Raise ValueError if it is not UTF-8."""
        return str(self.payload, "utf-8")

    def json(self) -> "Any":
        """Return what the payload says in JSON. Raise ValueError if it is none, or cut off."""
        from .payload import decode

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
