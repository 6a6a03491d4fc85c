"""The queue of messages that the broker has not acknowledged yet, bounded, in memory.

No I/O, and no clock is read here.
"""

from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import SecureMQTTError
    from ..messages import Delivery
    from ..transport.base import Link
    from .parking import Parking


# What the topic, the header and the object itself cost beside the payload, for the bound in bytes.
_OVERHEAD_BYTES = const(64)


class Outbox:
    """Messages in their order: those in flight were taken, those waiting are linked from `head`.

    `held` of them are in memory, in flight or waiting, with `bytes` in all. `when_full`: "refuse"
    (`put` returns None), "drop_oldest" (of those waiting), or "drop_newest" (the new one itself).
    `dropped` counts what gave way so, `expired` what was too old or superseded by a newer message.
    """

    sync_on_put = False  # whether `sync` is due after each `put`
    failure: "SecureMQTTError | None" = None  # why the storage takes nothing
    # What deals with messages at which the broker hangs up: made with the first strike.
    parking: "Parking | None" = None
    notify: "Callable[[], None] | None" = None  # wakes who waits for a message

    def __init__(self, max_messages: int, max_bytes: int, when_full: str = "refuse") -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.when_full = when_full
        self.held = 0
        self.bytes = 0
        self.dropped = 0
        self.expired = 0
        self.head: "Delivery | None" = None  # the next one to send
        self._tail: "Delivery | None" = None  # the last one that waits
        # When the next one of those waiting expires, or earlier; None: none does.
        self._expiry_ms: "int | None" = None

    @property
    def count(self) -> int:
        """How many messages are not acknowledged yet."""
        return self.held

    @staticmethod
    def size(delivery: "Delivery") -> int:
        """Return what a message counts against the bound in bytes."""
        return len(delivery.payload) + len(delivery.topic) + _OVERHEAD_BYTES

    def fits(self, size: int) -> bool:
        """Return True if there is room for one more message of `size` bytes."""
        return self.held < self.max_messages and self.bytes + size <= self.max_bytes

    def put(
        self, delivery: "Delivery", newest_only: bool = False, now_ms: int = 0
    ) -> "Delivery | None":
        """Append a message and return what to tell its sender by; None if it was refused.

        What can never fit is refused, whatever `when_full` says. `newest_only`: what waits on the
        same topic is evicted. Where there is no room, what has expired goes first.
        """
        size = self.size(delivery)
        if size > self.max_bytes:
            return None
        if newest_only:
            self.sweep(delivery.topic, now_ms)
        if not self.fits(size):
            self.expire(now_ms)
            while self.when_full == "drop_oldest" and not self.fits(size):
                if self.parking is None or not self.parking.parked.evict_first():
                    if self.head is None:
                        break
                    self.evict(None, self.head)
                self.dropped += 1
            if not self.fits(size):
                if self.when_full != "drop_newest":
                    return None
                self.dropped += 1
                delivery.dropped = True
                return delivery
        self.append(delivery, size)
        return delivery

    def deferred(self, delivery: "Delivery") -> "Delivery":
        """Return what to tell the sender of a message by for which `put` can be called later only.

        Allocates little, and touches nothing of the outbox.
        """
        return delivery

    def decided(self, deferred: "Delivery", accepted: "Delivery") -> None:
        """Have the sender told by `accepted`, which `put` has returned at last."""

    def append(self, delivery: "Delivery", size: int) -> None:
        """Put a message of this `size` behind all others, whatever the bounds say."""
        self.held += 1
        self.bytes += size
        self.note_expiry(delivery)
        if self._tail is None:
            self.head = delivery
        else:
            self._tail.next = delivery
        self._tail = delivery

    def take(self, now_ms: int) -> "Delivery | None":
        """Return the next message to send; None if there is none.

        What expired while it waited is evicted and counted.
        """
        delivery = self.head
        while delivery and delivery.expires_ms is not None and delivery.expires_ms <= now_ms:
            self.expired += 1
            self.evict(None, delivery)
            delivery = self.head
        if delivery:
            self._unlink(None, delivery)
        return delivery

    def put_back(self, delivery: "Delivery") -> None:
        """Have a message that was just taken be the first again."""
        if self.head is None:
            self._tail = delivery
        delivery.next = self.head
        self.head = delivery

    def forget(self, delivery: "Delivery") -> None:
        """Stop counting a message: it is acknowledged, or given up."""
        self.held -= 1
        self.bytes -= self.size(delivery)

    def expire(self, now_ms: int) -> None:
        """Evict what has expired, if anything has."""
        if self._expiry_ms is not None and self._expiry_ms <= now_ms:
            self.sweep(None, now_ms)

    def sweep(self, topic: "str | None", now_ms: int) -> None:
        """Evict, and count, what waits on `topic` and what has expired; what is in flight stays."""
        before = None
        delivery = self.head
        self._expiry_ms = None
        if self.parking is not None:
            self.parking.parked.sweep(topic, now_ms)
        while delivery:
            after = delivery.next
            expires_ms = delivery.expires_ms
            if delivery.topic == topic or (expires_ms is not None and expires_ms <= now_ms):
                self.expired += 1
                self.evict(before, delivery)
            else:
                before = delivery
                self.note_expiry(delivery)
            delivery = after

    def evict(self, before: "Delivery | None", delivery: "Delivery") -> None:
        """Give up a message that waits behind `before`; None: that is the first."""
        self._unlink(before, delivery)
        self.give_up(delivery)

    def give_up(self, delivery: "Delivery") -> None:
        """Note that a message is given up, and tell who waits for it."""
        delivery.dropped = True
        self.forget(delivery)
        if delivery.awaited and self.notify is not None:
            self.notify()

    def ended(self, link: "Link", now_ms: int) -> None:
        """Note that a connection is over, and that no message is suspected for it."""
        if self.parking is not None:
            self.parking.lost(link, False, now_ms)

    def note(self, delivery: "Delivery", strikes: int, tries: int = 0, wait_ms: int = 0) -> None:
        """Note how a message gets on that the broker may refuse: in a journal, if there is one.

        `strikes`: see parking.py; 0: it is gone. `tries`, `wait_ms`: of one that is parked.
        """

    def resume(self) -> None:
        """Make ready for a connection. A durable outbox may raise OutboxInUse."""

    def release(self) -> None:
        """Bring all to the storage, and leave its directory to other processes."""

    def sync(self) -> None:
        """Bring to the storage what was put, and what is acknowledged; block for that long."""

    def tick(self) -> None:
        """Sync if that is due: called in each turn, for boards, which have no thread for that."""

    def counters(self) -> "dict[str, int]":
        """Return what was counted beside `dropped` and `expired`."""
        return {}

    def _unlink(self, before: "Delivery | None", delivery: "Delivery") -> None:
        if before is None:
            self.head = delivery.next
        else:
            before.next = delivery.next
        if delivery.next is None:
            self._tail = before  # None where none waits, else the last message would stay in memory
        delivery.next = None

    def note_expiry(self, delivery: "Delivery") -> None:
        """Have `expire` look at a message when its time has come."""
        expires_ms = delivery.expires_ms
        if expires_ms is not None and (self._expiry_ms is None or expires_ms < self._expiry_ms):
            self._expiry_ms = expires_ms
