"""The journal: messages on a storage, numbered in their order, until they are acknowledged.

It is a directory of segments, files that are only ever appended to, and removed once all in them is
acknowledged or given up. They hold records: messages, and now and then a low-water mark, the number
below which all messages are acknowledged or given up, but for those that are parked; and, for what
the broker may refuse (parking.py), a note on one message, by its number. Each record begins with a
mark and ends with a checksum. Both depend on the journal's salt, a random number, so that nothing
in a payload can pass for a record:

    mark (2)  flags (1)  topic's length (2)  payload's length (4)
    expiry in Unix time, or 0 (4)  number, its low 32 bits (4)
    topic, payload, CRC-32 of all the rest (4)

The flags are QoS (1, 2), RETAIN, NEWEST_ONLY, LOW_WATER_MARK, NOTE and PARKED. A note's payload is
the number of strikes (1; 0: the message is gone), how often a parked one was tried again (1), in
how many starts it is to be next (2), and when, in Unix time, or 0 (4). A message that is parked is
written anew, under a number of its own, so that the low-water mark can pass the old one.

A segment's name is the number of its first message and the salt, in hexadecimal. What the journal
knows of messages is their numbers: which were taken to be sent, which are acknowledged, and how
many are on the storage alone, to be read back later (reading.py). upkeep.py has what is done once
in a while, the start and the end; compaction.py makes room.
"""

import os
import struct
from binascii import crc32

from ..log import log
from ..platform import Lock, const, now_ms, unix_time

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from ..messages import Delivery

    class File(Protocol):
        """A file that is appended to."""

        def write(self, __data: bytes) -> "int | None":
            """Append; return how many bytes there was room for. Raise OSError."""

        def flush(self) -> None:
            """Bring what was written to the storage, so that it outlives the power.

            Do nothing if the file is closed. Raise OSError.
            """

        def close(self) -> None:
            """Let go of the file. Raise OSError."""

    class Sharing(Protocol):
        """What there is to do where other processes and threads are."""

        claimed: bool
        """Whether other processes are kept out."""

        def claim(self) -> bool:
            """Keep other processes out; return False if one is in already. Raise OSError."""

        def release(self) -> None:
            """Let other processes in. Raise OSError."""

        def sync_names(self) -> None:
            """Bring to the storage which files the directory has. Raise OSError."""

        def alarm(self, function: "Callable[[], None]") -> "Alarm":
            """Return what calls `function` in a thread of its own."""

    class Alarm(Protocol):
        """Calls a function some time after it was set."""

        def set(self, delay_ms: int) -> None:
            """Have the function called in at most `delay_ms`."""

        def cancel(self) -> None:
            """Have it not called any more."""


HEAD = ">HBHIII"
HEAD_BYTES = const(17)
RECORD_BYTES = const(21)  # head and checksum: what a record takes beside topic and payload
# Flags: bits 0 and 1 are the QoS.
RETAIN = const(4)
NEWEST_ONLY = const(8)
LOW_WATER_MARK = const(16)
NOTE = const(32)
PARKED = const(64)
NOTE_FORMAT = ">BBHI"
# So many acknowledgements may go unrecorded: after a kill, as many messages may be sent twice.
_MARK_EVERY = const(100)
# After a failure, the storage is left alone for so long.
_RETRY_MS = const(60000)
# Error numbers, which not every board's errno has.
NO_SPACE = const(28)
_NO_SUCH_FILE = const(2)


def blocks(size: int) -> int:
    """Return how many blocks of 4 kB, the unit of the usual file systems, a file takes."""
    return (size + 4095) >> 12


def expiry_s(delivery: "Delivery") -> int:
    """Return when a message expires, as a record has it: in Unix time, 0 if it does not."""
    if delivery.expires_ms is None:
        return 0
    expiry = unix_time() + (delivery.expires_ms - now_ms()) // 1000 + 1
    return min(max(expiry, 1), 0xFFFFFFFF)


def encode(salt: int, flags: int, topic: bytes, payload: bytes, expiry: int, number: int) -> bytes:
    """Return the bytes of a record."""
    head = struct.pack(
        HEAD, salt >> 16, flags, len(topic), len(payload), expiry, number & 0xFFFFFFFF
    )
    record = b"".join((head, topic, payload))
    return record + struct.pack("<I", crc32(record, salt))


class Storage:
    """A directory on a board's flash. There is one process, and no other thread."""

    # What a journal may take unless the user says otherwise: it is to leave room on 1 MB or so.
    journal_bytes = 65536
    # The smallest and the largest segment: a block, and more only where there would be too many.
    segment_bytes = (4096, 16384)
    # An empty segment up to this size is kept, to be appended to. None is: littlefs keeps a file of
    # a few hundred bytes in its directory; creating and removing it costs a tenth of an erase,
    # appending to it a whole one.
    kept_bytes = 0
    sharing: "Sharing | None" = None

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def make_directory(self) -> None:
        """Make the directory. Raise OSError."""
        os.mkdir(self.directory)

    def open(self, path: str) -> "File":
        """Open a file to append to. Raise OSError."""
        return open(path, "ab")


class Segment:
    """One file of the journal.

    `live` of its messages are neither acknowledged nor given up; of those, `unread` are not in
    memory, from position `offset` on.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.size = self.live = self.unread = self.offset = 0


class Journal:
    """Segments in a storage's directory.

    All is called with `lock` held, but for `sync`. `failed` is called when the storage has
    failed; then `retry_ms` is when it may be tried again, and to keep to that is the caller's part.
    The files may take `bound` blocks in all.
    """

    def __init__(
        self,
        storage: "Storage",
        lock: Lock,
        segment_bytes: int,
        bound: int,
        interval_ms: int,
        failed: "Callable[[OSError], None]",
    ) -> None:
        self.storage = storage
        self.lock = lock
        self.segment_bytes = segment_bytes  # up to which size a segment is appended to
        # Whether the directory was read, and is not left to other processes.
        self.usable = False
        # What was in the directory when it was left to other processes; None: it is not.
        self.left: "list[tuple[str, int]] | None" = None
        self.retry_ms = 0
        self.written_bytes = 0
        self.damaged = 0
        self.failures = 0
        self.due_ms: "int | None" = None  # when to sync
        self.alarm: "Alarm | None" = None  # has that done where no loop looks after it
        self._interval_ms = interval_ms
        self._bound = bound
        self._failed = failed
        self._syncing = Lock()
        lock.go_with(self._syncing)
        self.file: "File | None" = None  # the last segment's
        self.closing: "list[File]" = []  # earlier ones', to be brought to the storage
        self._unsynced = False  # whether `_file` has something that is not on the storage yet
        self.reset()

    def reset(self) -> None:
        """Begin with nothing in it."""
        self.salt = int.from_bytes(os.urandom(4), "big")
        self.segments: "list[Segment]" = []
        self.free_blocks = self._bound
        self.next_number = 1
        self.first_number = 1  # the first one that this process gives
        self.taken = 0  # the number of the last message that was taken to be sent
        self.in_flight: "list[int]" = []  # the numbers of those that are not acknowledged yet
        self.unread = 0  # how many messages are on the storage alone
        # The last note on each message, by its number, as the start has found them; and the numbers
        # of those that are gone.
        self.notes: "dict[int, bytes]" = {}
        self.gone: "list[int]" = []
        # How many were acknowledged or given up since the last low-water mark.
        self.unmarked = 0
        # Whether messages could not be read, so that the next start must find them.
        self.unreadable = False
        # Whether the last segment, whose file is not open, may be appended to.
        self.continuable = False
        # There was no room: none is looked for before, unless a segment is removed.
        self.full_until_ms = 0

    def path(self, segment: "Segment") -> str:
        """Return the path of a segment's file."""
        return "{}/{:012x}{:08x}".format(self.storage.directory, segment.first, self.salt)

    # Writing

    def has_room(self, size: int) -> bool:
        """Return True if there is room for a record of `size` bytes without compaction."""
        used = self.segments[-1].size if self.file or self.continuable else 0
        if used + size > self.segment_bytes:
            used = 0
        return blocks(used + size) - blocks(used) <= self.free_blocks

    def write(self, flags: int, topic: bytes, payload: bytes, expiry: int) -> int:
        """Append a message, for which there must be room; return its number. Raise OSError."""
        number = self.next_number
        try:
            self._append(encode(self.salt, flags, topic, payload, expiry, number))
        finally:
            self.next_number += 1  # also where it failed: the record may be whole on the storage
        self.segments[-1].live += 1
        self.schedule()
        return number

    def _append(self, record: bytes) -> None:
        """Write a record, in a new segment if there is none that may be appended to."""
        size = len(record)
        last = self.segments[-1] if self.segments else None
        if last and (last.size + size > self.segment_bytes or not (self.file or self.continuable)):
            if self.file:
                self.closing.append(self.file)
                self.file = None
            if not last.live:
                self.discard(last)
            last = None
        file = self.file
        if last is None:
            last = Segment(self.next_number)
            file = self.storage.open(self.path(last))
            self.segments.append(last)
        elif file is None:
            file = self.storage.open(self.path(last))
        self.file = file
        self.continuable = False
        self.free_blocks -= blocks(last.size + size) - blocks(last.size)
        last.size += size  # also where it fails: a part may be there
        if file.write(record) != size:
            raise OSError(NO_SPACE, "no space")
        self._unsynced = True
        self.written_bytes += size

    def append(self, content: bytes) -> bool:
        """Append records that are no messages to be sent, if there is room; return True if so."""
        if not self.usable or now_ms() < self.retry_ms or not self.has_room(len(content)):
            return False
        try:
            self._append(content)
        except OSError as error:
            self.fail(error)
            return False
        self.schedule()
        return True

    def schedule(self) -> None:
        """Have a sync happen when the interval is over."""
        if self.due_ms is None:
            self.due_ms = now_ms() + self._interval_ms
            if self.alarm and self._interval_ms:
                self.alarm.set(self._interval_ms)

    def sync(self) -> None:
        """Bring to the storage what was written, and what is acknowledged; block for that long.

        Called without the lock, and lets go of it while it waits for the storage.
        """
        files: "list[File]" = []
        with self._syncing:
            try:
                with self.lock:
                    if self.unmarked:
                        self._write_mark()
                    last = self.file
                    if last and self._unsynced:
                        files.append(last)
                    files += self.closing
                    self.closing = []
                    self._unsynced = False
                for file in files:
                    file.flush()
                    if file is not last:
                        file.close()
            except OSError as error:
                self.fail(error, files)
        if self.lock.deferred:
            self.lock.settle()

    def fail(self, error: OSError, files: "list[File] | None" = None) -> None:
        """Note that the storage has failed, and close what is open, `files` too."""
        with self.lock:
            for file in (files or []) + self.closing + [self.file]:
                try:
                    if file:
                        file.close()
                except OSError as again:
                    log("debug", str(again))
            self.file = None
            self.closing = []
            self.continuable = False
            self.retry_ms = now_ms() + _RETRY_MS
            self.failures += 1
            self._failed(error)

    # Acknowledging

    def acknowledge(self, number: int) -> None:
        """Note that a message is acknowledged or given up."""
        if number in self.in_flight:
            self.in_flight.remove(number)
        segments = self.segments
        index = 0
        while index + 1 < len(segments) and segments[index + 1].first <= number:
            index += 1
        segment = segments[index]
        segment.live -= 1
        if not segment.live and (
            segment.size > self.storage.kept_bytes or not self.file or index + 1 < len(segments)
        ):
            self.discard(segment)
        else:
            self.unmarked += 1
            if self.unmarked >= _MARK_EVERY and self._write_mark():
                self.schedule()

    def discard(self, segment: "Segment") -> None:
        """Remove a segment in which nothing is needed any longer."""
        file = None
        if segment is self.segments[-1]:
            file = self.file
            self.file = None
            self._unsynced = False
            self.continuable = False
        self.segments.remove(segment)
        self.full_until_ms = 0
        try:
            if file:
                file.close()
        # It goes all the same: a full storage, which may say so only now, has room then.
        except OSError as error:
            self.fail(error)
        try:
            os.remove(self.path(segment))
        except OSError as error:
            if error.errno != _NO_SUCH_FILE:
                self.fail(error)
                return
        self.free_blocks += blocks(segment.size)

    def _write_mark(self) -> bool:
        """Write the low-water mark, where it is news and has room; return True if it was."""
        self.unmarked = 0
        number = self.in_flight[0] if self.in_flight else self.taken + 1
        segments = self.segments
        if (
            self.unreadable
            or not segments
            or segments[0].first >= number
            or not (self.file or self.continuable)
            or not self.free_blocks
            or segments[-1].size + RECORD_BYTES > self.segment_bytes
        ):
            return False
        try:
            self._append(encode(self.salt, LOW_WATER_MARK, b"", b"", 0, number))
        except OSError as error:
            self.fail(error)
            return False
        return True
