"""The bounded queue of messages that the broker has not acknowledged yet.

No I/O, and no clock is read here.
"""

from ._compat import TYPE_CHECKING, const, once

if TYPE_CHECKING:
    from typing import Any

    from .client import Client
    from .errors import SecureMQTTError

# What the topic, the header and the object itself cost beside the payload, for the bound in bytes.
_OVERHEAD_BYTES = const(64)


class Delivery:
    """A message on its way out: what `publish` returns.

    `acknowledged` becomes true when the broker has taken it over (PUBACK for QoS 1, PUBCOMP for QoS
    2, written to the network for QoS 0); `dropped` when it was given up: the outbox was full,
    `expires_s` had passed, or a newer one took its place. `stored` is above 0 once it is on the
    medium (outbox="durable").
    """

    __slots__ = (
        "acknowledged",
        "awaited",
        "client",
        "dropped",
        "expires_ms",
        "next",
        "payload",
        "qos",
        "retain",
        "stored",
        "topic",
    )

    def __init__(
        self, topic: str, payload: bytes, qos: int, retain: bool, expires_ms: "int | None" = None
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.expires_ms = expires_ms
        self.acknowledged = False
        self.dropped = False
        self.awaited = False
        self.stored = 0
        self.next: "Delivery | None" = None
        self.client: "Client | None" = None

    def wait(self, timeout_s: float = 30) -> bool:
        """Serve the network until the broker has acknowledged this message; return True if it has
        within `timeout_s` seconds.
        """
        if self.client is None or self.dropped:
            return self.acknowledged
        return self.client.wait_for(self, timeout_s)


class Outbox:
    """Messages in their order: those in flight first, then those waiting. Bounded in messages and
    in bytes.

    `when_full`: "refuse" (put gives None), "drop_oldest" (of those waiting), or "drop_newest" (the
    new one itself). journal.py has the durable form, which has something in the place of what is
    None or False here.
    """

    eager = False  # whether `sync` is due after each `put`
    sync: "Any" = None  # brings what was put to the medium
    tick: "Any" = None  # to be called once in a while, where there is no thread for that
    failure: "SecureMQTTError | None" = None  # why the medium takes nothing

    @once
    def __init__(self, max_messages: int, max_bytes: int, when_full: str = "refuse") -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.when_full = when_full
        self.count = 0
        self.bytes = 0
        self.dropped = 0
        self.expired = 0
        self._stale_ms = 0  # when the next one of those waiting expires, or earlier; 0: none does
        self.head: "Delivery | None" = None  # the next one to send
        self._tail: "Any" = None  # the last one; of no meaning while there is no head

    @staticmethod
    def size(delivery: Delivery) -> int:
        """Return what a message counts against the bound in bytes."""
        return len(delivery.payload) + len(delivery.topic) + _OVERHEAD_BYTES

    def fits(self, size: int) -> bool:
        """Return True if there is room for one more message of `size` bytes."""
        return self.count < self.max_messages and self.bytes + size <= self.max_bytes

    def put(
        self, delivery: Delivery, newest_only: bool = False, now_ms: int = 0
    ) -> "Delivery | None":
        """Append a message and return what to tell its sender by; None if it was refused. What can
        never fit is, whatever `when_full` says.

        `newest_only`: what waits on the same topic is dropped.
        """
        size = self.size(delivery)
        if size > self.max_bytes:
            return None
        lacking = not self.fits(size)
        if (
            newest_only
            or delivery.expires_ms is not None
            or (lacking and (self._stale_ms or self.when_full != "refuse"))
        ):
            from .dropping import make_way  # a board that has no use for this does without

            make_way(self, delivery, newest_only, now_ms)
            if delivery.dropped:
                return delivery
            lacking = not self.fits(size)
        if lacking:
            return None
        self.count += 1
        self._link(delivery, size)
        return delivery

    def take(self, now_ms: int) -> "Delivery | None":
        """Return the next message to send; None if there is none.

        What expired while it waited is dropped and counted.
        """
        delivery = self.head
        if delivery is not None and delivery.expires_ms is not None:
            from .dropping import pass_over

            pass_over(self, now_ms)
            delivery = self.head
        if delivery is not None:
            self.head = delivery.next
            if self.head is None:
                self._tail = None  # else the last message would stay in memory
            delivery.next = None
        return delivery

    def put_back(self, delivery: Delivery) -> None:
        """Have a message that was just taken be the first again."""
        delivery.next = self.head
        self.head = delivery
        if self._tail is None:
            self._tail = delivery

    def forget(self, delivery: Delivery) -> None:
        """Stop counting a message: it is acknowledged, or given up."""
        self.count -= 1
        self.bytes -= self.size(delivery)

    def _link(self, delivery: Delivery, size: int) -> None:
        self.bytes += size
        if self.head is None:
            self.head = delivery
        else:
            self._tail.next = delivery
        self._tail = delivery
