"""What a journal needs once in a while: the start, on what an earlier process left, and the end.

A board loads this module for the occasion and forgets it again.
"""

import os

from ..log import log
from ..platform import const
from .journal import LOW_WATER_MARK, NEWEST_ONLY, NO_SPACE, Segment, blocks

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..errors import OutboxNotDurable
    from .journal import Journal, Storage

_FULL = (NO_SPACE, 27, 122)  # ENOSPC, EFBIG, EDQUOT
_READ_ONLY = (30, 13, 1)  # EROFS, EACCES, EPERM


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
        if len(name) == 20 and all(digit in b"0123456789abcdef" for digit in name.encode())
    ]
    return [(path, os.stat(path)[6]) for path in paths]


def unfinished(storage: "Storage") -> str:
    """Return the path of a segment that is being written, and is none yet.

    Remove what is left there of one that was never finished. Raise OSError.
    """
    if "new" in os.listdir(storage.directory):
        os.remove(storage.directory + "/new")
    return storage.directory + "/new"


def _load(journal: "Journal") -> "dict[str, int]":
    """Find what an earlier process has left: past a torn tail, past damaged records.

    Return by topic the number below which all are superseded. Raise OSError.
    """
    journal.reset()
    unfinished(journal.storage)
    newest: "dict[str, int]" = {}
    last = mark = damaged = gaps = 0
    segments = journal.segments
    for path, size in _listing(journal.storage):
        segment = Segment(int(path[-20:-8], 16))
        segment.size = size
        journal.salt = int(path[-8:], 16)
        segments.append(segment)
        last, noted, gaps = _survey(journal, segment, last, newest)
        mark = max(mark, noted)
        damaged += gaps
    above = mark - 1
    for segment in segments:
        if segment.first < mark:
            above = _survey(journal, segment, above, newest)[0]
    if segments:
        journal.continuable = not gaps and segments[-1].live > 0
        journal.next_number = max(last + 1, segments[-1].first + 1, mark)
        journal.first_number = journal.next_number
        journal.taken = max(mark, segments[0].first) - 1
        journal.unmarked = 1
    for segment in list(segments):
        journal.free_blocks -= blocks(segment.size)
        journal.unread += segment.live
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


def _survey(
    journal: "Journal", segment: "Segment", above: int, newest: "dict[str, int]"
) -> "tuple[int, int, int]":
    """Count the messages in a segment with numbers above `above`.

    Return the last number, the highest low-water mark, and how many gaps there are.
    """
    from .reading import scan  # a board that starts with an empty directory does without

    mark = gaps = end = 0
    segment.live = 0
    for record in scan(journal, segment):
        gaps += record.start != end
        end = record.end
        if record.flags & LOW_WATER_MARK:
            mark = max(mark, record.number)
        elif record.number > above:
            above = record.number
            if record.flags & 3:
                if not segment.live:
                    segment.offset = record.start
                segment.live += 1
                if record.flags & NEWEST_ONLY:
                    newest[record.topic] = above
    segment.unread = segment.live
    return above, mark, gaps + (end != segment.size)
