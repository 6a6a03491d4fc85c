"""What a journal needs once in a while: the start, on what an earlier process left, and the end.

A board loads this module for the occasion and forgets it again.
"""

import os
import struct

from ..log import log
from ..platform import const, now_ms, unix_time
from .journal import (
    LOW_WATER_MARK,
    NEWEST_ONLY,
    NO_SPACE,
    NOTE,
    NOTE_FORMAT,
    PARKED,
    RETAIN,
    Segment,
    blocks,
    encode,
    expiry_s,
)

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..errors import OutboxNotDurable
    from ..messages import Delivery, Waiter
    from .journal import Journal, Storage
    from .memory import Outbox

_FULL = (NO_SPACE, 27, 122)  # ENOSPC, EFBIG, EDQUOT
_READ_ONLY = (30, 13, 1)  # EROFS, EACCES, EPERM
# Behind the name of a segment that is being written, and is none yet.
UNFINISHED = ".new"
# The strikes of a parked message: see parked.py, which need not be loaded for that.
_PARKED = const(7)


# The start and the end


def start(journal: "Journal", empty: bool) -> "dict[str, int] | None":
    """Take hold of the directory, and read what is in it unless that is known.

    Return, where it was read, by topic the number below which all are superseded; None where
    nothing has changed, or where the storage fails. A directory that could not be read before is
    tried again only if the outbox is `empty`: nothing may wait that would have to come behind what
    is there. Raise OutboxInUse if another process has it, or has changed what is not delivered yet.
    """
    if journal.left is None and not empty:
        return None
    storage = journal.storage
    newest = None
    try:
        try:
            os.stat(storage.directory)
        except OSError:
            storage.make_directory()
        if storage.sharing and not storage.sharing.claim():
            from ..errors import OutboxInUse

            raise OutboxInUse(
                "another process, or another Client, has the outbox in " + storage.directory
            )
        if journal.left is None or _listing(storage) != journal.left:
            if not empty:
                from ..errors import OutboxInUse

                _release(journal)
                raise OutboxInUse(
                    "another process has used the outbox in {} meanwhile".format(storage.directory)
                )
            journal.left = None
            newest = _load(journal)
        journal.left = None
        journal.usable = True
    except OSError as error:
        journal.fail(error)
        if journal.left is None:
            journal.reset()
        else:
            _release(journal)
    return newest


def leave(journal: "Journal") -> None:
    """Close all, and leave the directory to other processes, where there can be any."""
    for segment in list(journal.segments):
        if not segment.live:
            journal.discard(segment)
    if journal.alarm:
        journal.alarm.cancel()
    try:
        if journal.due_ms is not None:  # something came after the sync before this
            journal.due_ms = None
            from .reading import flush

            flush(journal)
        close(journal)
    except OSError as error:
        journal.fail(error)
    sharing = journal.storage.sharing
    if journal.usable and sharing and sharing.claimed:
        try:
            journal.left = _listing(journal.storage)
        except OSError as error:
            journal.fail(error)
            return  # what others would do in the directory, nobody could tell later
        journal.usable = False
    _release(journal)


def storage_error(storage: "Storage", error: OSError) -> "OutboxNotDurable":
    """Return, and log, what is to be told of a storage that has failed."""
    from ..errors import OutboxNotDurable

    code = error.errno
    told = OutboxNotDurable(
        "the outbox's directory {} fails, so messages are in memory only".format(storage.directory),
        code,
        "full" if code in _FULL else "read_only" if code in _READ_ONLY else "",
    )
    log("error", str(told))
    return told


def close(journal: "Journal") -> None:
    """Close what is open; the last segment may still be appended to. Raise OSError."""
    for file in journal.closing + [journal.file]:
        if file:
            file.close()
    journal.continuable = journal.continuable or journal.file is not None
    journal.file = None
    journal.closing = []


def _release(journal: "Journal") -> None:
    try:
        if journal.storage.sharing:
            journal.storage.sharing.release()
    except OSError as error:
        log("debug", str(error))


def _listing(storage: "Storage") -> "list[tuple[str, int]]":
    """Return path and size of each segment's file, in order. Raise OSError."""
    paths = [
        storage.directory + "/" + name
        for name in sorted(os.listdir(storage.directory))
        if _is_segment(name)
    ]
    return [(path, os.stat(path)[6]) for path in paths]


def _is_segment(name: str) -> bool:
    return len(name) == 20 and all(digit in b"0123456789abcdef" for digit in name.encode())


def remove_unfinished(storage: "Storage") -> None:
    """Remove what is left of segments that were never finished. Raise OSError."""
    for name in os.listdir(storage.directory):
        if name[20:] == UNFINISHED and _is_segment(name[:20]):
            os.remove(storage.directory + "/" + name)


def _load(journal: "Journal") -> "dict[str, int]":
    """Find what an earlier process has left: past a torn tail, past damaged records.

    Return by topic the number below which all are superseded. Raise OSError.
    """
    journal.reset()
    remove_unfinished(journal.storage)
    newest: "dict[str, int]" = {}
    noted: "list[int]" = []
    last = mark = damaged = gaps = 0
    segments = journal.segments
    for path, size in _listing(journal.storage):
        segment = Segment(int(path[-20:-8], 16))
        segment.size = size
        salt = journal.salt
        journal.salt = int(path[-8:], 16)
        if _is_foreign(journal, segment):
            journal.salt = salt
            log("warning", path + " is none of the outbox's files, and is left alone")
            continue
        segments.append(segment)
        last, low, gaps = _survey(journal, segment, last, newest, [])
        mark = max(mark, low)
        damaged += gaps
    journal.gone = [number for number, note in journal.notes.items() if not note[0]]
    above = mark - 1
    for segment in segments:
        if segment.first < mark or journal.notes:
            above = _survey(journal, segment, above, newest, noted)[0]
    journal.notes = {number: journal.notes[number] for number in noted}
    if segments:
        journal.continuable = not gaps and segments[-1].live > 0
        journal.next_number = max(last + 1, segments[-1].first + 1, mark)
        journal.first_number = journal.next_number
        journal.taken = max(mark, segments[0].first) - 1
        journal.unmarked = 1
    for segment in list(segments):
        journal.free_blocks -= blocks(segment.size)
        journal.unread += segment.unread
        if not segment.live:
            journal.discard(segment)
    journal.damaged += damaged
    if journal.unread or damaged:
        log(
            "info",
            "{} messages were left in {}, {} damaged places passed over".format(
                journal.unread, journal.storage.directory, damaged
            ),
        )
    return {topic: number for topic, number in newest.items() if number >= mark}


def _is_foreign(journal: "Journal", segment: "Segment") -> bool:
    """Return True for somebody else's file, which has but the name of a segment.

    What a power cut has left of ours is empty, begins with a record's mark or with zeros, or has
    records further on. Raise OSError.
    """
    from .reading import scan

    with open(journal.path(segment), "rb") as file:
        begin = file.read(2)
    if begin in (b"", b"\0\0") or struct.pack(">H", journal.salt >> 16).startswith(begin):
        return False
    records = scan(journal, segment)
    try:
        for _ in records:
            return False
    finally:
        records.close()
    return True


def _survey(
    journal: "Journal",
    segment: "Segment",
    above: int,
    newest: "dict[str, int]",
    noted: "list[int]",
) -> "tuple[int, int, int]":
    """Count the messages in a segment with numbers above `above`, and those that are parked.

    Return the last number, the highest low-water mark, and how many gaps there are; `noted` gets
    the numbers of those on which there are notes.
    """
    from .reading import scan  # a board that starts with an empty directory does without

    mark = gaps = end = 0
    segment.live = segment.unread = 0
    for record in scan(journal, segment):
        gaps += record.start != end
        end = record.end
        if record.flags & LOW_WATER_MARK:
            mark = max(mark, record.number)
        elif record.flags & NOTE:
            journal.notes[record.number] = record.payload
        elif record.number > above or record.flags & PARKED:
            above = max(above, record.number)
            if record.flags & 3 and record.number not in journal.gone:
                segment.live += 1
                if record.number in journal.notes:
                    noted.append(record.number)
                if not record.flags & PARKED:
                    if not segment.unread:
                        segment.offset = record.start
                    segment.unread += 1
                if record.flags & NEWEST_ONLY:
                    newest[record.topic] = above
    return above, mark, gaps + (end != segment.size)


# What the broker may refuse: see parking.py


def note(
    journal: "Journal", delivery: "Delivery", strikes: int, tries: int, due_s: int, clock: bool
) -> None:
    """Write how a message gets on; 0 strikes: it is gone. `due_s`: 0 without a clock.

    One that is parked is written anew, where there is room. Else it stays where it is: the next
    start does not know it as parked, and finds out again.
    """
    number = delivery.stored
    if strikes != _PARKED:
        journal.append(_note(journal, number, strikes))
        return
    expiry = expiry_s(delivery) if clock else 0
    flags = PARKED | delivery.qos | (RETAIN if delivery.retain else 0)
    anew = journal.next_number
    content = _note(journal, number, 0)
    content += _note(journal, anew, strikes, min(tries, 255), min(1 << tries, 65535), due_s)
    content += encode(journal.salt, flags, delivery.topic.encode(), delivery.payload, expiry, anew)
    if journal.append(content):
        journal.next_number += 1
        journal.segments[-1].live += 1
        journal.acknowledge(number)
        delivery.stored = anew


def _note(
    journal: "Journal", number: int, strikes: int, tries: int = 0, starts: int = 0, due_s: int = 0
) -> bytes:
    content = struct.pack(NOTE_FORMAT, strikes, tries, starts, due_s)
    return encode(journal.salt, NOTE, b"", content, 0, number)


def recall(
    outbox: "Outbox",
    journal: "Journal",
    waiter: "Waiter",
    newest: "dict[str, int]",
    clock_floor_s: int,
) -> None:
    """Give the outbox its parking back, as an earlier process has left it.

    What is parked comes into memory, as far as that has room: the rest stays until a later start.
    Raise OSError.
    """
    from .parking import Parking
    from .reading import delivery_of, is_stale, scan

    notes = journal.notes
    journal.notes = {}
    parking = outbox.parking = Parking(outbox)
    for segment in list(journal.segments):
        for record in scan(journal, segment):
            if not record.flags & PARKED or record.number in journal.gone:
                continue
            delivery = delivery_of(record, waiter)
            size = outbox.size(delivery)
            note = notes.pop(record.number, b"")
            if is_stale(record, newest):
                outbox.expired += 1
                journal.acknowledge(record.number)
            elif outbox.held and not outbox.fits(size):
                parking.parked.left.append(record.number)
            else:
                outbox.held += 1
                outbox.bytes += size
                tries, wait_ms = _due(journal, record.number, note, clock_floor_s)
                parking.parked.recall(delivery, tries, wait_ms, now_ms())
    parking.begin({number: notes[number][0] for number in notes})
    log("info", "{} messages are parked, {} suspected".format(parking.parked.count, len(notes)))


def supersede(outbox: "Outbox", journal: "Journal", topic: str) -> None:
    """Give up what is parked on `topic` and not in memory. Raise OSError."""
    from .reading import scan

    parking = outbox.parking
    if parking is None:
        return
    left = parking.parked.left
    found = []
    for segment in journal.segments:
        for record in scan(journal, segment):
            if record.flags & PARKED and record.number in left and record.topic == topic:
                found.append(record.number)
    for number in found:
        left.remove(number)
        outbox.expired += 1
        journal.append(_note(journal, number, 0))
        journal.acknowledge(number)


def _due(
    journal: "Journal", number: int, note: bytes, clock_floor_s: int
) -> "tuple[int, int | None]":
    """Return how often a parked message was tried again, and in how many ms it is to be next.

    None: it waits anew. Without a clock it is counted in starts.
    """
    if len(note) != struct.calcsize(NOTE_FORMAT):
        return 0, None
    strikes, tries, starts, due_s = struct.unpack(NOTE_FORMAT, note)
    if due_s and unix_time() > clock_floor_s:
        return tries, max(due_s - unix_time(), 0) * 1000
    if starts <= 1:
        return tries, 0
    journal.append(_note(journal, number, strikes, tries, starts - 1, due_s))
    return tries, None
