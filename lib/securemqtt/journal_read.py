"""Reading the journal: records, past damaged ones, and the messages that only the medium holds.

See journal.py.
"""

import struct
from binascii import crc32

from ._compat import FLASH, TYPE_CHECKING, const, log, now_ms, rarely, unix_time
from .journal_record import FLOOR, HEAD, HEAD_BYTES, RECORD_BYTES, RETAIN, path_of
from .outbox import Delivery

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import BinaryIO

    from .journal import DurableOutbox
    from .journal_write import Segment

# The CRC-32 of anything that is followed by its own CRC-32.
_RESIDUE = const(0x2144DF1C)
# How many messages are read back at a time.
_BATCH = const(64)
_CHUNK_BYTES = const(512)


class Record:
    """What is between `start` and `end` of a segment: a message, or a floor."""

    __slots__ = ("end", "expiry", "flags", "number", "payload", "start", "topic")

    def __init__(self, start: int, head: "tuple[int, ...]", body: bytes, first: int) -> None:
        _, self.flags, topic_bytes, _, self.expiry, low = head
        self.start = start
        self.end = start + HEAD_BYTES + len(body)
        # A message's number is not below the segment's first, a floor may be.
        self.number = first + ((low - first + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        self.topic = str(body[:topic_bytes], "utf-8")
        self.payload = body[topic_bytes:-4]


def records(
    outbox: "DurableOutbox", segment: "Segment", at: int = 0
) -> "Generator[Record, None, None]":
    """Return the records of a segment from position `at` on; damaged ones are passed over, and show
    as a gap.
    """
    salt = outbox._salt
    mark = salt >> 16
    end = segment.size
    with open(path_of(outbox, segment), "rb") as file:
        file.seek(at)
        while at + RECORD_BYTES <= end:
            raw = file.read(HEAD_BYTES)
            if len(raw) < HEAD_BYTES:
                return
            head = struct.unpack(HEAD, raw)
            size = HEAD_BYTES + head[2] + head[3] + 4
            if head[0] == mark and at + size <= end:
                body = file.read(size - HEAD_BYTES)
                if crc32(body, crc32(raw, salt)) == _RESIDUE:
                    yield Record(at, head, body, segment.first)
                    at += size
                    continue
            at = _next_mark(file, at + 1, end, mark)
            file.seek(at)


def _next_mark(file: "BinaryIO", at: int, end: int, mark: int) -> int:
    """Return the next position that may be a record's start; `end` if there is none."""
    wanted = struct.pack(">H", mark)
    file.seek(at)
    while at < end:
        chunk = file.read(_CHUNK_BYTES)
        found = chunk.find(wanted)
        if found >= 0:
            return at + found
        if len(chunk) < 2:
            break
        at += len(chunk) - 1
        file.seek(at)
    return end


class Left(Delivery):
    """What `publish` gives for a message that is left to the medium.

    Nothing says later which of such messages were dropped, expired or damaged, so all that saw some
    go while they waited count as dropped.
    """

    __slots__ = ("_gone", "_journal", "_verdict")

    def __init__(self, delivery: Delivery, outbox: "DurableOutbox") -> None:
        self.topic = delivery.topic
        self.payload = delivery.payload
        self.qos = delivery.qos
        self.retain = delivery.retain
        self.client = delivery.client
        self.stored = delivery.stored
        self._journal = outbox
        self._gone = _gone(outbox)
        self._verdict = 0  # -1: dropped, 1: acknowledged; once said, it stays

    @property
    def acknowledged(self) -> bool:  # type: ignore[override]
        return self._judged() > 0

    @property
    def dropped(self) -> bool:  # type: ignore[override]
        return self._judged() < 0

    def _judged(self) -> int:
        outbox = self._journal
        if not self._verdict:
            with outbox._lock:
                if not outbox.count or (
                    self.stored <= outbox._taken and self.stored not in outbox._flying
                ):
                    self._verdict = 1 if _gone(outbox) == self._gone else -1
        return self._verdict


def _gone(outbox: "DurableOutbox") -> int:
    """Count the messages that waited and will not be sent; what was refused is not among them."""
    dropped = outbox.dropped if outbox.when_full == "drop_oldest" else 0
    return outbox.expired + dropped + outbox._stats["journal_damaged"]


def left(outbox: "DurableOutbox", delivery: Delivery) -> "Delivery | None":
    """Leave a message that was just written to the medium alone; None if it is not certain to be
    there.
    """
    segment = outbox._segments[-1]
    if FLASH and outbox.eager and outbox._file:
        try:
            outbox._file.flush()
        except OSError as error:
            segment.live -= 1
            rarely("journal_start").failed(outbox, error)
            return None
    if not segment.unread:
        segment.offset = (
            segment.size - RECORD_BYTES - len(delivery.topic.encode()) - len(delivery.payload)
        )
    segment.unread += 1
    outbox._unread += 1
    outbox.count += 1
    result = Left(delivery, outbox)
    outbox._go_on()
    return result


def read_back(outbox: "DurableOutbox") -> None:
    """Read messages into memory as far as there is room for them, at least one if there is any."""
    read = 0
    try:
        if FLASH:
            for file in outbox._closing + [outbox._file]:
                if file:
                    file.flush()  # what is not, cannot be read
    except OSError as error:
        rarely("journal_start").failed(outbox, error)
    for segment in list(outbox._segments):
        if segment.unread:
            read = _read_segment(outbox, segment, read)
            if segment.unread:
                return


def is_message(outbox: "DurableOutbox", record: Record) -> bool:
    """Return True if a record is a message to be sent: not a floor, nor of QoS 0 from before this
    process.
    """
    return not record.flags & FLOOR and (record.flags & 3 > 0 or record.number >= outbox._born)


def is_stale(outbox: "DurableOutbox", record: Record, now_s: int) -> bool:
    """Return True if a message has expired, or there is a newer one on a topic of which only the
    newest counts.
    """
    return 0 < record.expiry <= now_s or outbox._newest.get(record.topic, 0) > record.number


def _read_segment(outbox: "DurableOutbox", segment: "Segment", read: int) -> int:
    """Read one segment on; `read` messages have been already, return how many it is now."""
    stale = []
    now_s = unix_time()
    reader = records(outbox, segment, segment.offset)
    try:
        for record in reader:
            if not is_message(outbox, record):
                continue
            if is_stale(outbox, record, now_s):
                stale.append(record.number)
            else:
                delivery = _delivery(outbox, record, now_s)
                size = outbox.size(delivery)
                full = (
                    outbox.count - outbox._unread >= outbox.max_messages
                    or outbox.bytes + size > outbox.max_bytes
                )
                if outbox.head is not None and (full or read >= _BATCH):
                    break
                read += 1
                outbox._link(delivery, size)
            if outbox._newest.get(record.topic) == record.number:
                del outbox._newest[record.topic]
            segment.offset = record.end
            segment.unread -= 1
            outbox._unread -= 1
        else:
            _give_up(outbox, segment)
    except OSError as error:
        # Its messages stay where they are for the next start, so no floor may pass them.
        outbox._settled = -1 << 30
        segment.live += segment.unread
        _give_up(outbox, segment)
        rarely("journal_start").failed(outbox, error)
    finally:  # also where there was no memory for more
        reader.close()
        for number in stale:
            outbox.count -= 1
            outbox.expired += 1
            outbox._writer().settle(outbox, number)
    if not segment.live and segment in outbox._segments:
        outbox._writer().discard(outbox, segment)
    return read


def _delivery(outbox: "DurableOutbox", record: Record, now_s: int) -> Delivery:
    expires_ms = now_ms() + (record.expiry - now_s) * 1000 if record.expiry else None
    delivery = Delivery(
        record.topic, record.payload, record.flags & 3, bool(record.flags & RETAIN), expires_ms
    )
    delivery.stored = record.number
    delivery.client = outbox._client
    delivery.awaited = True  # perhaps: whoever has published it has a `Left` of it
    return delivery


def _give_up(outbox: "DurableOutbox", segment: "Segment") -> None:
    """Count as damaged what should be in a segment and is not."""
    lost = segment.unread
    if lost:
        segment.unread = 0
        segment.live -= lost
        outbox.count -= lost
        outbox._unread -= lost
        outbox._stats["journal_damaged"] += lost
        log("error", "{} messages in {} are damaged".format(lost, path_of(outbox, segment)))
