"""Reading a journal: its records, past damaged ones, and the messages that are in it alone.

A board has this module in memory while there are such messages, and for upkeep.py.
"""

import struct
from binascii import crc32

from ..log import log
from ..messages import Delivery
from ..platform import FLASH, const, now_ms, unix_time
from .journal import HEAD, HEAD_BYTES, LOW_WATER_MARK, NOTE, PARKED, RECORD_BYTES, RETAIN
from .stand_in import Left

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import BinaryIO

    from ..messages import Waiter
    from .journal import Journal, Segment
    from .memory import Outbox

# The CRC-32 of anything that is followed by its own CRC-32.
_RESIDUE = const(0x2144DF1C)
_CHUNK_BYTES = const(512)
# How many messages are read back at a time.
_BATCH = const(64)


class Record:
    """What is between `start` and `end` of a segment: a message, or a low-water mark."""

    __slots__ = ("end", "expiry", "flags", "number", "payload", "start", "topic")

    def __init__(self, start: int, head: "tuple[int, ...]", body: bytes, first: int) -> None:
        _, self.flags, topic_bytes, _, self.expiry, low = head
        self.start = start
        self.end = start + HEAD_BYTES + len(body)
        # A message's number is not below `first`, its segment's; a low-water mark may be.
        self.number = first + ((low - first + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        self.topic = str(body[:topic_bytes], "utf-8")
        self.payload = body[topic_bytes:-4]


def scan(
    journal: "Journal", segment: "Segment", position: int = 0
) -> "Generator[Record, None, None]":
    """Generate the records of a segment from `position` on.

    Damaged ones are passed over, and show as a gap between the end of one record and the start of
    the next. Raise OSError.
    """
    salt = journal.salt
    mark = salt >> 16
    end = segment.size
    with open(journal.path(segment), "rb") as file:
        file.seek(position)
        while position + RECORD_BYTES <= end:
            raw = file.read(HEAD_BYTES)
            if len(raw) < HEAD_BYTES:
                return
            head = struct.unpack(HEAD, raw)
            size = RECORD_BYTES + head[2] + head[3]
            if head[0] == mark and position + size <= end:
                body = file.read(size - HEAD_BYTES)
                if crc32(body, crc32(raw, salt)) == _RESIDUE:
                    yield Record(position, head, body, segment.first)
                    position += size
                    continue
            position = _next_mark(file, position + 1, end, mark)
            file.seek(position)


def _next_mark(file: "BinaryIO", position: int, end: int, mark: int) -> int:
    """Return the next position at which a record may start; `end` if there is none."""
    wanted = struct.pack(">H", mark)
    file.seek(position)
    while position < end:
        chunk = file.read(_CHUNK_BYTES)
        found = chunk.find(wanted)
        if found >= 0:
            return position + found
        if len(chunk) < 2:
            break
        position += len(chunk) - 1
        file.seek(position)
    return end


def flush(journal: "Journal") -> None:
    """Bring to the storage what was written. Raise OSError."""
    for file in journal.closing + [journal.file]:
        if file:
            file.flush()


def is_message(journal: "Journal", record: "Record") -> bool:
    """Return True if a record is to be sent: no low-water mark, note or parked message, nor an
    earlier process's QoS 0.

    Messages of QoS 0 are here for the sake of their order only.
    """
    return (
        not record.flags & (LOW_WATER_MARK | NOTE | PARKED)
        and (record.flags & 3 > 0 or record.number >= journal.first_number)
        and record.number not in journal.gone
    )


def is_unread(journal: "Journal", segment: "Segment", record: "Record") -> bool:
    """Return True if a record is a message that is in the journal alone."""
    return segment.unread > 0 and record.start >= segment.offset and is_message(journal, record)


def is_stale(record: "Record", newest: "dict[str, int]") -> bool:
    """Return True if a message has expired, or is superseded by a newer one on its topic.

    `newest`: by topic, the number before which all are.
    """
    return 0 < record.expiry <= unix_time() or newest.get(record.topic, 0) > record.number


def delivery_of(record: "Record", waiter: "Waiter") -> "Delivery":
    """Return a message that was read."""
    expires_ms = None
    if record.expiry:
        expires_ms = now_ms() + (record.expiry - unix_time()) * 1000
    delivery = Delivery(
        record.topic,
        record.payload,
        record.flags & 3,
        record.flags & RETAIN > 0,
        expires_ms,
        waiter,
    )
    delivery.stored = record.number
    delivery.awaited = True  # perhaps: whoever has published it has a `Left` of it
    return delivery


class Backlog:
    """Messages of an outbox that are in its journal alone, as memory had no room for them.

    They are read back in their order, when nothing waits in memory any more. Called with `lock`
    held.
    """

    def __init__(
        self,
        outbox: "Outbox",
        journal: "Journal",
        waiter: "Waiter",
        newest: "dict[str, int]",
    ) -> None:
        self._outbox = outbox
        self._journal = journal
        self._waiter = waiter
        self._newest = newest

    def leave(self, delivery: "Delivery", certain: bool) -> "Delivery | None":
        """Leave a message to the journal, to which it was written last.

        Return what to tell its sender by. `certain`: bring it to the storage first; return None if
        that fails: then it counts as not written.
        """
        journal = self._journal
        segment = journal.segments[-1]
        if certain:
            try:
                flush(journal)
            except OSError as error:
                segment.live -= 1
                journal.fail(error)
                return None
        if not segment.unread:
            size = RECORD_BYTES + len(delivery.topic.encode()) + len(delivery.payload)
            segment.offset = segment.size - size
        segment.unread += 1
        journal.unread += 1
        return Left(delivery, self)

    def read_on(self) -> None:
        """Read messages into memory, as far as there is room, if none waits there."""
        while self._outbox.head is None and self._journal.unread:
            self._read_batch()

    def _read_batch(self) -> None:
        """Read some messages into memory; at least one, unless it is stale."""
        outbox = self._outbox
        journal = self._journal
        read = 0
        stale: "list[int]" = []
        reader = self._unread()
        try:
            for record in reader:
                if is_stale(record, self._newest):
                    if len(stale) >= _BATCH:
                        break
                    stale.append(record.number)
                else:
                    delivery = delivery_of(record, self._waiter)
                    size = outbox.size(delivery)
                    if outbox.head is not None and (read >= _BATCH or not outbox.fits(size)):
                        break
                    outbox.append(delivery, size)
                    read += 1
                if self._newest.get(record.topic) == record.number:
                    del self._newest[record.topic]
        finally:  # also where there was no memory for more
            reader.close()
            if not outbox.count:
                journal.taken = journal.next_number - 1  # none of them waits
            for number in stale:
                outbox.expired += 1
                journal.acknowledge(number)

    def _unread(self) -> "Generator[Record, None, None]":
        """Generate the messages that are in the journal alone.

        Each counts as read when the next one is asked for; so whoever has no room for one closes
        the generator, and gets it again next time. Nothing is done to the journal meanwhile. What
        is damaged is counted and passed over.
        """
        journal = self._journal
        if FLASH:  # what was not flushed cannot be read there
            try:
                flush(journal)
            except OSError as error:
                journal.fail(error)
        for segment in list(journal.segments):
            if not segment.unread:
                continue
            records = scan(journal, segment, segment.offset)
            try:
                for record in records:
                    if is_message(journal, record):
                        yield record
                        segment.offset = record.end
                        segment.unread -= 1
                        journal.unread -= 1
                self._lose(segment)
            except OSError as error:
                # Its messages stay where they are for the next start, so no low-water mark may pass
                # them.
                journal.unreadable = True
                segment.live += segment.unread
                self._lose(segment)
                journal.fail(error)
            finally:
                records.close()
            if not segment.live:
                journal.discard(segment)

    def _lose(self, segment: "Segment") -> None:
        """Count as damaged what should be in a segment and is not."""
        journal = self._journal
        lost = segment.unread
        if lost:
            segment.unread = 0
            segment.live -= lost
            journal.unread -= lost
            journal.damaged += lost
            log("error", "{} messages in {} are damaged".format(lost, journal.path(segment)))

    def fate(self, number: int, gone_before: int) -> int:
        """Return what has become of a message that was left to the journal.

        1: it is acknowledged; 0: it is not; -1: it was given up. Nothing says which messages of the
        journal were dropped, expired or damaged; so if any have been, since there were
        `gone_before` of them, it is taken for one of those. Called without the lock.
        """
        journal = self._journal
        with journal.lock:
            if self.parked(number) is not None:
                return 0
            if self._outbox.count and (number > journal.taken or number in journal.in_flight):
                return 0
            return 1 if self.gone() == gone_before else -1

    def parked(self, number: int) -> "Delivery | None":
        """Return a message that was left to the journal, if it is parked now."""
        parking = self._outbox.parking
        return None if parking is None else parking.parked.of_number(number)

    def gone(self) -> int:
        """Count the messages that waited and will not be sent, but for what was refused."""
        outbox = self._outbox
        dropped = outbox.dropped if outbox.when_full == "drop_oldest" else 0
        return outbox.expired + dropped + self._journal.damaged
