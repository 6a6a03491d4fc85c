"""What the journal writes not at once: on flash, with an interval, what has not been acknowledged by its end; and floors. See journal.py."""

from ._compat import TYPE_CHECKING, now_ms, rarely
from .journal import FLOOR, RECORD_BYTES

if TYPE_CHECKING:
    from .journal import DurableOutbox


def save(outbox: "DurableOutbox") -> None:
    """Write what is not acknowledged yet. May raise OSError: then it is tried again once the medium is."""
    while outbox._unsaved and now_ms() >= outbox._retry_ms and not outbox._parked:
        delivery, newest_only = outbox._unsaved[0]
        flying = delivery.stored
        if not outbox.write(delivery, newest_only):
            outbox._stats["unstored"] += 1
        elif flying:
            outbox._flying.append(delivery.stored)
            outbox._taken = delivery.stored
        outbox._unsaved = [entry for entry in outbox._unsaved if entry[0] is not delivery]


def floor(outbox: "DurableOutbox") -> int:
    """Give the number below which all is settled."""
    if not outbox.count:
        return outbox._next
    return outbox._flying[0] if outbox._flying else outbox._taken + 1


def note_floor(outbox: "DurableOutbox") -> bool:
    """Write down the number below which all is settled, where that is news and there is room for it; give whether it was written."""
    segments = outbox._segments
    outbox._settled = 0
    number = floor(outbox)
    if not segments or segments[0].first >= number or not (outbox._file or outbox._appendable):
        return False
    if outbox._blocks and segments[-1].size + RECORD_BYTES <= outbox._segment_bytes:
        try:
            outbox.append(outbox.encode(FLOOR, b"", b"", 0, number))
            return True
        except OSError as error:
            rarely("journal_start").failed(outbox, error)
    return False
