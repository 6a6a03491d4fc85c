"""Compaction: what is no longer needed in a journal gives way, and is left out of its segments.

A board loads this module for the occasion and forgets it again.
"""

import os

from ..platform import const, now_ms
from .journal import NO_SPACE, NOTE, Segment, blocks, encode
from .reading import flush, is_stale, is_unread, scan
from .upkeep import UNFINISHED, close, remove_unfinished

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .journal import File, Journal
    from .memory import Outbox
    from .reading import Record


def make_room(
    outbox: "Outbox",
    journal: "Journal",
    newest: "dict[str, int]",
    wanted: int,
) -> bool:
    """Free blocks until `wanted` are free; return True if they are. Raise OSError.

    What is no longer needed gives way; then, if the user wishes that, the oldest messages.
    `newest`: by topic, the number before which all are superseded.
    """
    flush(journal)
    close(journal)
    journal.continuable = False
    outbox.sweep(None, now_ms())
    in_memory = set(journal.in_flight)
    delivery = outbox.head
    while delivery is not None:
        in_memory.add(delivery.stored)
        delivery = delivery.next
    if outbox.parking is not None:
        in_memory.update(outbox.parking.parked.numbers())
    first = journal.segments[0].first if journal.segments else 0

    def needed(segment: "Segment", record: "Record") -> bool:
        if record.flags & NOTE:  # the message that it is about may still be there
            return record.number >= first
        return record.number in in_memory or (
            is_unread(journal, segment, record) and not is_stale(record, newest)
        )

    for segments in _groups(journal, needed):
        outbox.expired += _merge(journal, segments, needed)
    if journal.free_blocks < wanted and outbox.when_full == "drop_oldest":
        _evict_oldest(outbox, journal, wanted)
    return journal.free_blocks >= wanted


def _groups(
    journal: "Journal", needed: "Callable[[Segment, Record], bool]"
) -> "list[list[Segment]]":
    """Return neighbouring segments that take fewer blocks as one, without what is not needed."""
    groups: "list[tuple[list[Segment], int]]" = []
    for segment in journal.segments:
        size = 0
        for record in scan(journal, segment):
            if needed(segment, record):
                size += record.end - record.start
        if groups and groups[-1][1] + size <= journal.segment_bytes:
            segments, before = groups.pop()
            groups.append((segments + [segment], before + size))
        else:
            groups.append(([segment], size))
    return [
        segments
        for segments, size in groups
        if sum(blocks(segment.size) for segment in segments) > blocks(size)
    ]


def _merge(
    journal: "Journal",
    segments: "list[Segment]",
    needed: "Callable[[Segment, Record], bool]",
) -> int:
    """Put what is needed of `segments` in the place of the first of them.

    Return how many messages were in the journal alone and not needed. Raise OSError.
    """
    remove_unfinished(journal.storage)
    first = segments[0]
    path = journal.path(first) + UNFINISHED
    merged = Segment(first.first)
    try:
        file = journal.storage.open(path)
        try:
            stale = _copy_needed(journal, file, merged, segments, needed)
            file.flush()
        finally:
            file.close()
    except OSError:
        remove_unfinished(journal.storage)
        raise
    gone = sum(segment.unread for segment in segments) - merged.unread
    merged.live = sum(segment.live for segment in segments) - gone
    if merged.live:
        os.rename(path, journal.path(first))
        journal.free_blocks += blocks(first.size) - blocks(merged.size)
        journal.segments[journal.segments.index(first)] = merged
        if journal.storage.sharing:
            try:
                # Before the files go that the new one stands for.
                journal.storage.sharing.sync_names()
            except OSError as error:
                journal.fail(error)
    else:
        os.remove(path)
        journal.discard(first)
    for segment in segments[1:]:
        journal.discard(segment)
    journal.unread -= gone
    journal.damaged += gone - stale
    journal.unmarked += 1  # a low-water mark may have gone with what was left out
    return stale


def _copy_needed(
    journal: "Journal",
    file: "File",
    merged: "Segment",
    segments: "list[Segment]",
    needed: "Callable[[Segment, Record], bool]",
) -> int:
    """Write what is needed of `segments` to the file of the `merged` one.

    Return how many messages were in the journal alone and not needed. Raise OSError.
    """
    stale = 0
    for segment in segments:
        for record in scan(journal, segment):
            unread = is_unread(journal, segment, record)
            if needed(segment, record):
                if unread and not merged.unread:
                    merged.offset = merged.size
                merged.unread += unread
                merged.size += _copy(journal.salt, record, file)
            elif unread:
                stale += 1
    return stale


def _copy(salt: int, record: "Record", file: "File") -> int:
    content = encode(
        salt, record.flags, record.topic.encode(), record.payload, record.expiry, record.number
    )
    if file.write(content) != len(content):
        raise OSError(NO_SPACE, "no space")
    return len(content)


def _evict_oldest(outbox: "Outbox", journal: "Journal", wanted: int) -> None:
    """Evict the messages of the oldest segments, but for those in flight."""
    for segment in list(journal.segments):
        if journal.free_blocks >= wanted:
            return
        later = [other.first for other in journal.segments if other.first > segment.first]
        end = later[0] if later else journal.next_number
        before = None
        delivery = outbox.head
        while delivery is not None:
            following = delivery.next
            if segment.first <= delivery.stored < end:
                outbox.dropped += 1
                outbox.evict(before, delivery)
            else:
                before = delivery
            delivery = following
        if outbox.parking is not None:
            outbox.dropped += outbox.parking.parked.evict_numbers(segment.first, end)
        outbox.dropped += segment.unread
        journal.unread -= segment.unread
        segment.live -= segment.unread
        segment.unread = 0
        if not segment.live and segment in journal.segments:
            journal.discard(segment)
