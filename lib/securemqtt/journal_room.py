"""Room in a full journal: what is no longer needed gives way, then, if the user wishes, the oldest
messages. See journal.py.
"""

import os

from ._compat import MEDIUM, TYPE_CHECKING, append_to, const, now_ms, rarely, unix_time
from .dropping import drop, sweep
from .journal import blocks
from .journal_read import Record, is_message, is_stale, records
from .journal_record import clear, encode, path_of

if TYPE_CHECKING:
    from typing import BinaryIO

    from .journal import DurableOutbox
    from .journal_write import Segment
    from .outbox import Delivery

# Where there is no room, none is looked for again before so long, unless a segment is removed.
_PAUSE_MS = const(60000)


def make_room(outbox: "DurableOutbox", wanted: int) -> bool:
    """Free `wanted` blocks; return True if they are free. May raise OSError."""
    for file in outbox._closing + [outbox._file]:
        if file:
            file.flush()
            file.close()
    outbox._closing = []
    outbox._file = None
    outbox._appendable = False
    sweep(outbox, "", now_ms())
    _compact(outbox)
    if outbox._blocks < wanted and outbox.when_full == "drop_oldest":
        _drop_oldest(outbox, wanted)
    outbox._go_on()
    if outbox._blocks < wanted:
        outbox._full_ms = now_ms() + _PAUSE_MS
    return outbox._blocks >= wanted


def refuse(outbox: "DurableOutbox", delivery: "Delivery") -> "Delivery | None":
    """Do with a message for which there is no room what the user wishes; return what `put`
    gives.
    """
    outbox._go_on()
    if outbox.when_full != "drop_newest":
        return None
    outbox.dropped += 1
    delivery.dropped = True
    return delivery


def _compact(outbox: "DurableOutbox") -> None:
    """Write neighbouring segments anew, without what is not needed any longer, where that frees a
    block.
    """
    resident = set(outbox._flying)
    delivery = outbox.head
    while delivery is not None:
        resident.add(delivery.stored)
        delivery = delivery.next
    now_s = unix_time()
    groups: "list[tuple[list[Segment], int]]" = []
    for segment in outbox._segments:
        size = 0
        for record in records(outbox, segment):
            if record.number in resident or (
                _is_unread(outbox, segment, record) and not is_stale(outbox, record, now_s)
            ):
                size += record.end - record.start
        if groups and groups[-1][1] + size <= outbox._segment_bytes:
            segments, before = groups.pop()
            groups.append((segments + [segment], before + size))
        else:
            groups.append(([segment], size))
    for segments, size in groups:
        if sum(blocks(segment.size) for segment in segments) > blocks(size):
            _merge(outbox, segments, resident, now_s)


def _is_unread(outbox: "DurableOutbox", segment: "Segment", record: Record) -> bool:
    return segment.unread > 0 and record.start >= segment.offset and is_message(outbox, record)


def _merge(
    outbox: "DurableOutbox", segments: "list[Segment]", resident: "set[int]", now_s: int
) -> None:
    """Put what is needed of `segments` in the place of the first of them."""
    path = outbox._directory + "/new"
    merged = outbox._writer().Segment(segments[0].first)
    try:
        stale = _write(outbox, path, merged, segments, resident, now_s)
    except OSError:
        clear(outbox)
        raise
    gone = sum(segment.unread for segment in segments) - merged.unread
    merged.live = sum(segment.live for segment in segments) - gone
    first = segments[0]
    if merged.live:
        os.rename(path, path_of(outbox, first))
        outbox._blocks += blocks(first.size) - blocks(merged.size)
        outbox._segments[outbox._segments.index(first)] = merged
        _sync_names(outbox)
    else:
        os.remove(path)
        outbox._writer().discard(outbox, first)
    for segment in segments[1:]:
        outbox._writer().discard(outbox, segment)
    outbox.count -= gone
    outbox._unread -= gone
    outbox.expired += stale
    outbox._stats["journal_damaged"] += gone - stale
    outbox._settled += 1  # a floor may have gone with what was left out


def _write(
    outbox: "DurableOutbox",
    path: str,
    merged: "Segment",
    segments: "list[Segment]",
    resident: "set[int]",
    now_s: int,
) -> int:
    """Write what is needed of `segments` to a file that is to be `merged`; return how many messages
    were stale.
    """
    stale = 0
    clear(outbox)
    file = append_to(path)
    try:
        for segment in segments:
            for record in records(outbox, segment):
                unread = _is_unread(outbox, segment, record)
                if unread and is_stale(outbox, record, now_s):
                    stale += 1
                elif unread or record.number in resident:
                    if unread and not merged.unread:
                        merged.offset = merged.size
                    merged.unread += unread
                    merged.size += _copy(outbox, record, file)
        file.flush()
    finally:
        file.close()
    return stale


def _sync_names(outbox: "DurableOutbox") -> None:
    """Bring a new name to the medium before the files that it stands for go."""
    sync_directory = rarely("medium_" + MEDIUM).sync_directory
    if sync_directory:
        try:
            sync_directory(outbox._directory)
        except OSError as error:
            rarely("journal_start").failed(outbox, error)


def _copy(outbox: "DurableOutbox", record: Record, file: "BinaryIO") -> int:
    content = encode(
        outbox, record.flags, record.topic.encode(), record.payload, record.expiry, record.number
    )
    if file.write(content) != len(content):
        raise OSError(28, "no space")
    return len(content)


def _drop_oldest(outbox: "DurableOutbox", wanted: int) -> None:
    """Drop the messages of the oldest segments, but for those in flight."""
    for segment in list(outbox._segments):
        if outbox._blocks >= wanted:
            return
        after = [other.first for other in outbox._segments if other.first > segment.first]
        end = after[0] if after else outbox._next
        before = None
        delivery = outbox.head
        while delivery is not None:
            following = delivery.next
            if segment.first <= delivery.stored < end:
                outbox.dropped += 1
                drop(outbox, before, delivery)
            else:
                before = delivery
            delivery = following
        outbox.dropped += segment.unread
        outbox.count -= segment.unread
        outbox._unread -= segment.unread
        segment.live -= segment.unread
        segment.unread = 0
        if not segment.live and segment in outbox._segments:
            outbox._writer().discard(outbox, segment)
