"""The journal's start and end, and what happens when the medium fails. See journal.py."""

import os

from ._compat import FLASH, MEDIUM, TYPE_CHECKING, Lock, const, log, now_ms, rarely
from .failure import failure
from .journal import DurableOutbox, blocks
from .journal_record import FLOOR, NEWEST_ONLY, clear

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from .client import Client
    from .journal_write import Segment

# After a failure, the medium is left alone for so long.
_RETRY_MS = const(60000)
# A clock that shows less is wrong, whatever the bundle's clock_floor.
_EARLIEST_S = const(1735689600)
_FULL = (28, 27, 122)  # ENOSPC, EFBIG, EDQUOT
_READ_ONLY = (30, 13, 1)  # EROFS, EACCES, EPERM


def open_outbox(outbox: DurableOutbox, client: "Client", settings: "dict[str, Any]") -> None:
    """Make a client's outbox ready, with what an earlier process has left in it.

    Raises OutboxInUse. A medium that fails is no reason to raise: the outbox then works in memory,
    and client.last_error says why.
    """
    medium = rarely("medium_" + MEDIUM)
    journal_bytes = settings["outbox_journal_bytes"] or medium.JOURNAL_BYTES
    smallest, largest = medium.SEGMENT_BYTES
    # a record must leave room for others
    outbox.max_bytes = min(outbox.max_bytes, journal_bytes // 4)
    outbox._client = client
    outbox._stats = client._stats
    outbox._lock = client._lock
    outbox._directory = settings["outbox_dir"] or settings["path"] + "/outbox"
    outbox._segment_bytes = min(max(journal_bytes // 16 & ~4095, smallest), largest)
    # what is kept free is for journal_room
    outbox._bound = blocks(journal_bytes) - blocks(outbox._segment_bytes)
    outbox._clock_floor_s = max(settings["clock_floor"], _EARLIEST_S)
    outbox.eager = settings["outbox_fsync"] == "each"
    outbox._interval_ms = 0 if outbox.eager else int(settings["outbox_interval_s"] * 1000)
    outbox._late = FLASH and not outbox.eager
    outbox._alarm = None
    if medium.Alarm:
        outbox._alarm = medium.Alarm(outbox.sync)
        outbox.tick = None  # type: ignore[method-assign, assignment]
    outbox._unsaved = []
    outbox._closing = []
    outbox._file = outbox._claim = outbox._writing = None
    outbox._parked = None
    outbox._dirty = False
    outbox._due_ms = outbox._retry_ms = outbox._full_ms = 0
    outbox._flying = []
    outbox._syncing = Lock()
    outbox._stats.update(journal_bytes=0, journal_damaged=0, journal_failures=0, unstored=0)
    _reset(outbox)
    _open(outbox)


def resume(outbox: DurableOutbox) -> None:
    """Take up again a directory that was left to others. Raises OutboxInUse if one has it, or has
    changed what is not delivered yet.

    One that could not be read at the start is tried again, once nothing waits in memory that would
    have to come behind what is there.
    """
    with outbox._lock:
        if not outbox._parked:
            return
        (left,) = outbox._parked
        if left is None:
            if now_ms() >= outbox._retry_ms and not outbox.count:
                _open(outbox)
            return
        try:
            _claim(outbox)
            if _listing(outbox) != left:
                if outbox.count:
                    _let_go(outbox)
                    raise failure(
                        "OutboxInUse",
                        "another process has used the outbox in {} meanwhile".format(
                            outbox._directory
                        ),
                    )
                _load(outbox)
            outbox._parked = None
        except OSError as error:
            failed(outbox, error)
            _let_go(outbox)


def park(outbox: DurableOutbox) -> None:
    """Bring all to the medium and leave the directory to other processes, until it is needed
    again.
    """
    outbox.sync()
    with outbox._lock:
        for segment in list(outbox._segments):
            if not segment.live:
                outbox._writer().discard(outbox, segment)
        if outbox._alarm:
            outbox._alarm.cancel()
        try:
            if outbox._file:
                outbox._file.close()
                outbox._file = None
                outbox._appendable = True
        except OSError as error:
            failed(outbox, error)
        try:
            if outbox._claim and not outbox._parked:
                outbox._parked = (_listing(outbox),)
        except OSError as error:
            failed(outbox, error)
            return  # what others would do in the directory, nobody could tell later
        _let_go(outbox)


def failed(outbox: DurableOutbox, error: OSError, files: "list[BinaryIO] | None" = None) -> None:
    """Go on in memory for a while: say so, and close what is open."""
    client = outbox._client
    code = error.errno
    variant = "full" if code in _FULL else "read_only" if code in _READ_ONLY else None
    with outbox._lock:
        for file in (files or []) + outbox._closing + [outbox._file]:
            try:
                if file:
                    file.close()
            except OSError as again:
                log("debug", str(again))
        outbox._file = None
        outbox._closing = []
        outbox._appendable = False
        outbox._retry_ms = outbox._due_ms = now_ms() + _RETRY_MS
        outbox._dirty = bool(outbox._unsaved)
        outbox._stats["journal_failures"] += 1
        what = "the outbox's directory {} fails, so messages are in memory only".format(
            outbox._directory
        )
        outbox.failure = client.last_error = rarely("diagnose").explain(
            "OutboxNotDurable", what, code, variant
        )
    log("error", str(outbox.failure))


def _open(outbox: DurableOutbox) -> None:
    """Make the directory, unless it is there, and read what is in it; where that fails, it is tried
    again later.
    """
    outbox._parked = (None,)
    try:
        _make_directory(outbox._directory)
        if not outbox._claim:
            _claim(outbox)
        _load(outbox)
        outbox._parked = None
    except OSError as error:
        failed(outbox, error)
        _reset(outbox)


def _reset(outbox: DurableOutbox) -> None:
    outbox._segments = []
    outbox._reading = None
    outbox._newest = {}
    outbox._appendable = False
    outbox._salt = int.from_bytes(os.urandom(4), "big")
    outbox._next = outbox._born = 1
    outbox._taken = outbox._settled = outbox._unread = 0
    outbox._blocks = outbox._bound


def _make_directory(path: str) -> None:
    try:
        os.stat(path)
    except OSError:
        rarely("medium_" + MEDIUM).make_directory(path)


def _claim(outbox: DurableOutbox) -> None:
    medium = rarely("medium_" + MEDIUM)
    if medium.claim:
        outbox._claim = medium.claim(outbox._directory)
        if outbox._claim is None:
            raise failure(
                "OutboxInUse",
                "another process, or another Client, has the outbox in " + outbox._directory,
            )


def _let_go(outbox: DurableOutbox) -> None:
    claim, outbox._claim = outbox._claim, None
    try:
        if claim:
            claim.close()
    except OSError as error:
        log("debug", str(error))


def _listing(outbox: DurableOutbox) -> "list[tuple[str, int]]":
    """Return path and size of each segment's file, in order."""
    names = sorted(name for name in os.listdir(outbox._directory) if _is_segment(name))
    paths = [outbox._directory + "/" + name for name in names]
    return [(path, os.stat(path)[6]) for path in paths]


def _is_segment(name: str) -> bool:
    return len(name) == 20 and all(digit in "0123456789abcdef" for digit in name)


def _load(outbox: DurableOutbox) -> None:
    """Find what an earlier process has left: past a torn tail, past damaged records."""
    _reset(outbox)
    clear(outbox)
    last = floor = damaged = gaps = 0
    for path, size in _listing(outbox):
        segment = outbox._writer().Segment(int(path[-20:-8], 16))
        segment.size = size
        outbox._salt = int(path[-8:], 16)
        outbox._segments.append(segment)
        last, noted, gaps = _survey(outbox, segment, last)
        floor = max(floor, noted)
        damaged += gaps
    above = floor - 1
    for segment in outbox._segments:
        if segment.first < floor:
            above = _survey(outbox, segment, above)[0]
    if outbox._segments:
        outbox._appendable = not gaps and outbox._segments[-1].live > 0
        outbox._next = outbox._born = max(last + 1, outbox._segments[-1].first + 1, floor)
        outbox._taken = max(floor, outbox._segments[0].first) - 1
        outbox._settled = 1
    outbox._newest = {topic: number for topic, number in outbox._newest.items() if number >= floor}
    for segment in list(outbox._segments):
        outbox._blocks -= blocks(segment.size)
        outbox._unread += segment.live
        if not segment.live:
            outbox._writer().discard(outbox, segment)
    outbox.count = outbox._unread
    outbox._stats["journal_damaged"] += damaged
    if outbox.count or damaged:
        log(
            "info",
            "{} messages were left in {}, {} damaged places passed over".format(
                outbox.count, outbox._directory, damaged
            ),
        )
    if outbox._unread:
        outbox._go_on()
    if not outbox._unread:
        outbox._reading = None


def _survey(outbox: DurableOutbox, segment: "Segment", above: int) -> "tuple[int, int, int]":
    """Count the messages in a segment with numbers above `above`; return the last number, the
    highest floor, and how many gaps there are.
    """
    floor = gaps = end = 0
    segment.live = 0
    for record in outbox._reader().records(outbox, segment):
        gaps += record.start != end
        end = record.end
        if record.flags & FLOOR:
            floor = max(floor, record.number)
        elif record.number > above:
            above = record.number
            if record.flags & 3:
                if not segment.live:
                    segment.offset = record.start
                segment.live += 1
                if record.flags & NEWEST_ONLY:
                    outbox._newest[record.topic] = above
    segment.unread = segment.live
    return above, floor, gaps + (end != segment.size)
