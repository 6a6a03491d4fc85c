"""What writes the journal, and notes what is settled: in memory as long as there is something on
the medium. See journal.py.
"""

import os

from ._compat import FLASH, KEPT_BYTES, TYPE_CHECKING, append_to, const, now_ms, rarely, unix_time
from .journal import blocks
from .journal_record import FLOOR, NEWEST_ONLY, RECORD_BYTES, RETAIN, encode, path_of

if TYPE_CHECKING:
    from typing import BinaryIO

    from .journal import DurableOutbox
    from .outbox import Delivery

# So many acknowledgements may go unrecorded: after a kill, as many messages may be sent twice.
_FLOOR_EVERY = const(100)
# A board lets go of this module when the journal has been empty for so long.
_REST_MS = const(1000)


class Segment:
    """One file of the journal.

    `live` of its messages are not settled; of those, `unread` are not in memory, from `offset` on.
    """

    __slots__ = ("first", "live", "offset", "size", "unread")

    def __init__(self, first: int) -> None:
        self.first = first
        self.size = self.live = self.unread = self.offset = 0


def write(outbox: "DurableOutbox", delivery: "Delivery", newest_only: bool) -> bool:
    """Append a message; False if the journal has no room for it, OSError if the medium does not
    take it.
    """
    expiry = 0
    if delivery.expires_ms is not None and unix_time() > outbox._clock_floor_s:
        expiry = min(max(unix_time() + (delivery.expires_ms - now_ms()) // 1000 + 1, 1), 0xFFFFFFFF)
    flags = delivery.qos | (RETAIN if delivery.retain else 0) | (NEWEST_ONLY if newest_only else 0)
    number = outbox._next
    record = encode(outbox, flags, delivery.topic.encode(), delivery.payload, expiry, number)
    size = len(record)
    used = outbox._segments[-1].size if outbox._file or outbox._appendable else 0
    if used + size > outbox._segment_bytes:
        used = 0
    enough = blocks(used + size) - blocks(used) <= outbox._blocks
    if not enough and (
        now_ms() < outbox._full_ms or not rarely("journal_room").make_room(outbox, blocks(size))
    ):
        return False
    try:
        append(outbox, record)
    finally:
        outbox._next += 1  # also where it has failed: the record may be whole on the medium
    outbox.failure = None
    if newest_only and outbox._unread:
        outbox._newest[delivery.topic] = number
    outbox._segments[-1].live += 1
    delivery.stored = number
    outbox._mark()
    return True


def append(outbox: "DurableOutbox", record: bytes) -> None:
    """Write a record behind the last one, in a new segment if there is none that may be
    continued.
    """
    size = len(record)
    last = outbox._segments[-1] if outbox._segments else None
    if last and (
        last.size + size > outbox._segment_bytes or not (outbox._file or outbox._appendable)
    ):
        if outbox._file:
            outbox._closing.append(outbox._file)
            outbox._file = None
        if not last.live:
            discard(outbox, last)
        last = None
    if last is None:
        last = Segment(outbox._next)
        outbox._file = append_to(path_of(outbox, last))
        outbox._segments.append(last)
    elif not outbox._file:
        outbox._file = append_to(path_of(outbox, last))
    outbox._appendable = False
    outbox._blocks -= blocks(last.size + size) - blocks(last.size)
    last.size += size  # also where it fails: a part may be there
    if outbox._file.write(record) != size:
        raise OSError(28, "no space")  # ENOSPC, which not every board's errno has
    outbox._stats["journal_bytes"] += size


def settle(outbox: "DurableOutbox", number: int) -> None:
    """Note that a message on the medium needs to be there no longer."""
    segments = outbox._segments
    index = 0
    while index + 1 < len(segments) and segments[index + 1].first <= number:
        index += 1
    segment = segments[index]
    segment.live -= 1
    if not segment.live and (
        segment.size > KEPT_BYTES or not outbox._file or index + 1 < len(segments)
    ):
        discard(outbox, segment)
    else:
        outbox._settled += 1
        if outbox._settled >= _FLOOR_EVERY and note_floor(outbox):
            outbox._mark()


def discard(outbox: "DurableOutbox", segment: Segment) -> None:
    """Remove a segment in which nothing is needed any longer."""
    file = None
    if segment is outbox._segments[-1]:
        file = outbox._file
        outbox._file = None
        outbox._appendable = False
    outbox._segments.remove(segment)
    outbox._full_ms = 0
    try:
        if file:
            file.close()
    # it goes all the same: a full medium, which may say so only now, has room then
    except OSError as error:
        rarely("journal_start").failed(outbox, error)
    try:
        os.remove(path_of(outbox, segment))
    except OSError as error:
        if error.errno != 2:  # ENOENT
            rarely("journal_start").failed(outbox, error)
            return
    outbox._blocks += blocks(segment.size)
    # so that a board lets go of this module, unless more comes soon
    if FLASH and not outbox._segments and not outbox._dirty:
        outbox._dirty = True
        outbox._due_ms = now_ms() + _REST_MS


def sync(outbox: "DurableOutbox") -> None:
    """Bring to the medium what was put, and what is settled; blocks for as long as that takes."""
    files: "list[BinaryIO]" = []
    with outbox._syncing:
        try:
            with outbox._lock:
                if outbox._unsaved:
                    save(outbox)
                if outbox._settled > 0 and note_floor(outbox):
                    outbox._dirty = True
                last = outbox._file
                if last and outbox._dirty:
                    files.append(last)
                files += outbox._closing
                outbox._closing = []
                outbox._dirty = False
            for file in files:
                file.flush()
                if file is not last:
                    file.close()
        except OSError as error:
            rarely("journal_start").failed(outbox, error, files)


def save(outbox: "DurableOutbox") -> None:
    """Write what is not acknowledged yet.

    May raise OSError: then it is tried again once the medium is.
    """
    while outbox._unsaved and now_ms() >= outbox._retry_ms and not outbox._parked:
        delivery, newest_only = outbox._unsaved[0]
        flying = delivery.stored
        if not write(outbox, delivery, newest_only):
            outbox._stats["unstored"] += 1
        elif flying:
            outbox._flying.append(delivery.stored)
            outbox._taken = delivery.stored
        outbox._unsaved = [entry for entry in outbox._unsaved if entry[0] is not delivery]


def floor(outbox: "DurableOutbox") -> int:
    """Return the number below which all is settled."""
    if not outbox.count:
        return outbox._next
    return outbox._flying[0] if outbox._flying else outbox._taken + 1


def note_floor(outbox: "DurableOutbox") -> bool:
    """Write down the number below which all is settled, where that is news and there is room for
    it; return True if it was written.
    """
    segments = outbox._segments
    outbox._settled = 0
    number = floor(outbox)
    if not segments or segments[0].first >= number or not (outbox._file or outbox._appendable):
        return False
    if outbox._blocks and segments[-1].size + RECORD_BYTES <= outbox._segment_bytes:
        try:
            append(outbox, encode(outbox, FLOOR, b"", b"", 0, number))
            return True
        except OSError as error:
            rarely("journal_start").failed(outbox, error)
    return False
