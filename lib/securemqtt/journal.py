"""The outbox's durable form: each QoS 1 and 2 message is in a journal on the medium, too, until the
broker has acknowledged it.

The journal is a directory of segments, files that are only ever appended to, and removed once all
in them is settled. They hold messages, numbered in their order, and now and then a floor: the
number below which all is settled. Each record begins with a mark and ends with a checksum, and both
depend on the journal's salt, so that nothing in a payload can pass for a record:

    mark (2)  flags (1)  topic's length (2)  payload's length (4)  expiry in Unix time, or 0 (4)  number, its low 32 bits (4)
    topic, payload, CRC-32 of all the rest (4)

A segment's name is the number of its first message and the salt, in hexadecimal. What memory has no
room for is on the medium alone, and read back later. This module is what a board keeps of it;
journal_start.py has start and failure, journal_write.py and journal_read.py are there as long as
they have to do, journal_record.py is what both know of records, journal_room.py makes room in a
full journal. docs/outbox.md says what all this promises and what it costs.
"""

from ._compat import FLASH, TYPE_CHECKING, const, now_ms, rarely
from .outbox import Outbox

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from .client import Client
    from .journal_write import Segment
    from .outbox import Delivery

# How long a sync for which there was no memory is put off.
_SOON_MS = const(1000)


def blocks(size: int) -> int:
    """Return how many blocks of 4 kB, the unit of the usual file systems, a file of `size` bytes
    takes.
    """
    return (size + 4095) >> 12


class DurableOutbox(Outbox):
    """An outbox whose messages outlive the process and the power. journal_start.open_outbox makes
    it, and sets what is only declared here.

    `put`, `take` and `forget` are called with the client's lock held, `sync` and `tick` without it.
    """

    _client: "Client"
    _stats: "dict[str, int]"
    _lock: "Any"
    _directory: str
    _salt: int
    _segments: "list[Segment]"
    _segment_bytes: int  # the size up to which a segment is appended to
    # calls `sync` after the interval, in a thread of its own; None where there is none
    _alarm: "Any"
    _bound: int  # how many blocks all segments may take
    _blocks: int  # how many of them are left
    _clock_floor_s: int
    _interval_ms: int
    # on flash with an interval: only what is not acknowledged when it is over is written
    _late: bool
    _unsaved: "list[tuple[Delivery, bool]]"  # what is to be written then
    _file: "BinaryIO | None"  # the last segment's
    _closing: "list[BinaryIO]"  # earlier ones', to be brought to the medium
    _appendable: bool  # the last segment is not open, but may be continued
    _claim: "Any"  # holds the directory against other processes
    # what journal_start.resume has to know before the directory is used again; None: it is in use
    _parked: "Any"
    _retry_ms: int  # the medium has failed: it is not tried again before
    _full_ms: int  # there was no room: none is looked for before
    _next: int  # the number of the next message
    _born: int  # the same, when this process began
    _taken: int  # the number of the last message taken
    _flying: "list[int]"  # the numbers of those in flight
    _settled: int  # acknowledgements that no floor tells of yet
    _unread: int  # messages that are on the medium alone
    _newest: "dict[str, int]"  # topic -> number, where all before it are superseded, on the medium
    _reading: "Any"  # journal_read, or None
    _writing: "Any"  # journal_write, or None
    _dirty: bool
    _due_ms: int
    _syncing: "Any"  # a lock

    def put(
        self, delivery: "Delivery", newest_only: bool = False, now_ms: int = 0
    ) -> "Delivery | None":
        size = self.size(delivery)
        if size > self.max_bytes:
            return None
        if self._parked and now_ms >= self._retry_ms:
            rarely("journal_start").resume(self)
        if newest_only:
            from .dropping import sweep

            sweep(self, delivery.topic, now_ms)
        if not (delivery.qos or self._unread) and self.fits(size):
            return Outbox.put(self, delivery)
        # Twice, since records are not cut at a block's end: what is accepted must find room later.
        if (
            self._late
            and not self._unread
            and self.fits(size)
            and self._blocks > 2 * blocks(self.bytes + size)
        ):
            self._unsaved.append((delivery, newest_only))
            self._mark()
            return Outbox.put(self, delivery)
        if now_ms >= self._retry_ms and not self._parked:
            try:
                if self._unsaved:
                    self._writer().save(self)
                if not self._writer().write(self, delivery, newest_only):
                    return rarely("journal_room").refuse(self, delivery)  # type: ignore[no-any-return]
            except OSError as error:
                rarely("journal_start").failed(self, error)
        if delivery.stored and (self._unread or not self.fits(size)):
            return self._reader().left(self, delivery)  # type: ignore[no-any-return]
        if not delivery.stored:
            if self._unread:  # it would overtake what is on the medium
                self._go_on()
                return None
            self._stats["unstored"] += 1
        return Outbox.put(self, delivery, False, now_ms)

    def take(self, now_ms: int) -> "Delivery | None":
        delivery = None
        while delivery is None and self.head is not None:
            delivery = Outbox.take(self, now_ms)
            if self.head is None and self._unread:
                try:
                    self._reader().read_back(self)
                except MemoryError:
                    if delivery is None or self.head is not None:
                        raise
                    # it waits until there is memory for those behind it
                    self.head = self._tail = delivery
                    return None
                if not self._unread:
                    self._reading = None
                    self._newest = {}
        if delivery is not None:
            if delivery.stored:
                try:
                    self._flying.append(delivery.stored)
                except MemoryError:
                    Outbox.put_back(self, delivery)
                    raise
                self._taken = delivery.stored
            else:
                delivery.stored = -1
        return delivery

    def put_back(self, delivery: "Delivery") -> None:
        Outbox.put_back(self, delivery)
        if delivery.stored > 0:
            self._flying.remove(delivery.stored)
            self._taken = delivery.stored - 1
        else:
            delivery.stored = 0

    def _go_on(self) -> None:
        """Read on where nothing in memory waits any more: nobody asks an empty queue."""
        if self.head is None and self._unread:
            self._reader().read_back(self)

    def _reader(self) -> "Any":
        """Return the module that reads, which stays in memory while there are messages on the
        medium alone.
        """
        if self._reading is None:
            self._reading = rarely("journal_read")
        return self._reading

    def _writer(self) -> "Any":
        """Return the module that writes, which stays in memory until a sync finds nothing on the
        medium.
        """
        if self._writing is None:
            self._writing = rarely("journal_write")
        return self._writing

    def forget(self, delivery: "Delivery") -> None:
        Outbox.forget(self, delivery)
        number = delivery.stored
        if number > 0:
            if number in self._flying:
                self._flying.remove(number)
            self._writer().settle(self, number)
        else:
            self._unsaved = [entry for entry in self._unsaved if entry[0] is not delivery]

    def sync(self) -> None:
        """Bring to the medium what was put, and what is settled; blocks for as long as that
        takes.
        """
        with self._lock:
            idle = not (self._segments or self._unsaved or self._closing)
            if idle:
                self._dirty = False
                self._settled = min(self._settled, 0)
                if FLASH:
                    self._writing = None
        if not idle:
            self._writer().sync(self)

    def tick(self) -> None:
        """Sync if it is due: on a board, which has no thread for that."""
        try:
            self._go_on()
            if self._dirty and now_ms() >= self._due_ms:
                self.sync()
        except MemoryError:  # there may be some later
            self._due_ms = now_ms() + _SOON_MS

    def _mark(self) -> None:
        """Note that there is something to sync."""
        if not self._dirty:
            self._dirty = True
            self._due_ms = now_ms() + self._interval_ms
            if self._alarm and self._interval_ms:
                self._alarm.set(self._interval_ms)
