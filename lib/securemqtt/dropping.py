"""What leaves an outbox unsent: what has expired, what a newer message replaces, what must make
room. Loaded with the first such message.
"""

from ._compat import TYPE_CHECKING

if TYPE_CHECKING:
    from .outbox import Delivery, Outbox


def make_way(outbox: "Outbox", delivery: "Delivery", newest_only: bool, now_ms: int) -> None:
    """Drop what gives way to a message that is to be put, or the message itself, as far as the user
    wishes that.

    `newest_only`: what waits on the same topic does. Where there is no room, what has expired goes
    first.
    """
    size = outbox.size(delivery)
    expires_ms = delivery.expires_ms
    if expires_ms is not None and (not outbox._stale_ms or expires_ms < outbox._stale_ms):
        outbox._stale_ms = expires_ms
    if newest_only or (0 < outbox._stale_ms <= now_ms and not outbox.fits(size)):
        sweep(outbox, delivery.topic if newest_only else "", now_ms)
    while outbox.when_full == "drop_oldest" and outbox.head is not None and not outbox.fits(size):
        outbox.dropped += 1
        drop(outbox, None, outbox.head)
    if outbox.when_full == "drop_newest" and not outbox.fits(size):
        outbox.dropped += 1
        delivery.dropped = True


def sweep(outbox: "Outbox", topic: str, now_ms: int) -> None:
    """Drop, and count, what waits on `topic` and what has expired; what is in flight stays."""
    before = None
    delivery = outbox.head
    outbox._stale_ms = 0
    while delivery is not None:
        after = delivery.next
        expires_ms = delivery.expires_ms or 0
        if delivery.topic == topic or 0 < expires_ms <= now_ms:
            outbox.expired += 1
            drop(outbox, before, delivery)
        else:
            before = delivery
            if expires_ms and (not outbox._stale_ms or expires_ms < outbox._stale_ms):
                outbox._stale_ms = expires_ms
        delivery = after


def pass_over(outbox: "Outbox", now_ms: int) -> None:
    """Drop, and count, what has expired before the first message that has not."""
    while (
        outbox.head is not None
        and outbox.head.expires_ms is not None
        and outbox.head.expires_ms <= now_ms
    ):
        outbox.expired += 1
        drop(outbox, None, outbox.head)


def drop(outbox: "Outbox", before: "Delivery | None", delivery: "Delivery") -> None:
    """Take a message that waits behind `before` (None: the first) out of the queue, for good."""
    if before is None:
        outbox.head = delivery.next
    else:
        before.next = delivery.next
        if delivery.next is None:
            outbox._tail = before
    delivery.next = None
    delivery.dropped = True
    outbox.forget(delivery)
