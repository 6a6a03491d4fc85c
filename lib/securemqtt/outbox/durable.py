"""The outbox whose messages outlive the process and the power: each is in a journal, too.

That goes for QoS 1 and 2, until the broker has acknowledged them. What memory has no room for is in
the journal alone, and read back later. On flash with an interval, what is acknowledged within it is
never written. docs/outbox.md says what all this promises and what it costs.
"""

from ..platform import FLASH, const, now_ms, temporary, unix_time
from ..settings import EARLIEST_S
from .journal import NEWEST_ONLY, RECORD_BYTES, RETAIN, Journal, Storage, blocks, expiry_s
from .memory import Outbox
from .stand_in import Deferred

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Protocol

    from ..messages import Delivery, Waiter
    from ..platform import Lock
    from ..settings import Settings
    from .reading import Backlog

    class Owner(Waiter, Protocol):
        """What a durable outbox asks of the connection."""

        @property
        def lock(self) -> Lock:
            """What is held while the outbox is used."""

        last_error: Exception | None
        """The last failure, the storage's too: messages are in memory only then."""


# Where there is no room, none is looked for again before so long, unless a segment is removed.
_PAUSE_MS = const(60000)
# How long a sync for which there was no memory is put off.
_SOON_MS = const(1000)


class DurableOutbox(Outbox):
    """An outbox with a journal.

    What deals with single messages is called with the owner's lock held; `sync`, `tick`, `resume`
    and `release` without it, since they may take the storage's time. A storage that fails is no
    reason to raise: the outbox then works in memory, and tells its owner.
    """

    def __init__(self, settings: "Settings", owner: "Owner") -> None:
        """Read what an earlier process has left. Raise OutboxInUse."""
        directory = settings.outbox_dir or ""  # config.py has made it absolute
        if FLASH:
            storage = Storage(directory)
        else:
            from .disk import Disk

            storage = Disk(directory)
        journal_bytes = settings.outbox_journal_bytes or storage.journal_bytes
        smallest, largest = storage.segment_bytes
        segment_bytes = min(max(journal_bytes // 16 & ~4095, smallest), largest)
        super().__init__(
            settings.outbox_messages,
            min(settings.outbox_bytes, journal_bytes // 4),  # a record must leave room for others
            settings.outbox_full,
        )
        self.unstored = 0
        self.sync_on_put = settings.outbox_fsync == "each"
        # Whether only that is written which is not acknowledged when the interval is over.
        self.write_late = FLASH and not self.sync_on_put
        # A segment's blocks are kept free for compaction.
        self.journal = Journal(
            storage,
            owner.lock,
            segment_bytes,
            blocks(journal_bytes) - blocks(segment_bytes),
            0 if self.sync_on_put else int(settings.outbox_interval_s * 1000),
            self._storage_failed,
        )
        if storage.sharing:
            self.journal.alarm = storage.sharing.alarm(self.sync)
        self._owner = owner
        self._clock_floor_s = max(settings.clock_floor, EARLIEST_S)
        self._unsaved: "list[tuple[Delivery, bool]]" = []  # what is to be written then
        # Reads what is in the journal alone, while there is such.
        self._backlog: "Backlog | None" = None
        # By topic, the number before which all of those are superseded.
        self._newest: "dict[str, int]" = {}
        self.resume()

    @property
    def count(self) -> int:
        """How many messages are not acknowledged yet, those in the journal alone among them."""
        parking = self.parking  # which the loop may let go of meanwhile
        left = 0 if parking is None else len(parking.parked.left)
        return self.held + self.journal.unread + left

    def counters(self) -> "dict[str, int]":
        """Return what was counted beside `dropped` and `expired`."""
        return {
            "journal_bytes": self.journal.written_bytes,
            "journal_damaged": self.journal.damaged,
            "journal_failures": self.journal.failures,
            "unstored": self.unstored,
        }

    # The queue

    def put(
        self, delivery: "Delivery", newest_only: bool = False, now_ms: int = 0
    ) -> "Delivery | None":
        """Append a message to queue and journal; return what to tell its sender by.

        None if it was refused. Raise OutboxInUse.
        """
        journal = self.journal
        size = self.size(delivery)
        if size > self.max_bytes:
            return None
        if not journal.usable and now_ms >= journal.retry_ms:
            self.resume()
        if newest_only:
            self.sweep(delivery.topic, now_ms)
            if self.parking is not None and self.parking.parked.left:
                self._supersede(delivery.topic)
        if not (delivery.qos or journal.unread) and self.fits(size):
            return super().put(delivery)
        # Twice, since records are not cut at a block's end: what is accepted must find room later.
        if (
            self.write_late
            and not journal.unread
            and self.fits(size)
            and journal.free_blocks > 2 * blocks(self.bytes + size)
        ):
            self._unsaved.append((delivery, newest_only))
            journal.schedule()
            return super().put(delivery)
        if journal.usable and now_ms >= journal.retry_ms:
            try:
                self._save()
                if not self._write(delivery, newest_only):
                    self._go_on()
                    if self.when_full != "drop_newest":
                        return None
                    self.dropped += 1
                    delivery.dropped = True
                    return delivery
            except OSError as error:
                journal.fail(error)
        if delivery.stored and (journal.unread or not self.fits(size)):
            left = self._need_backlog().leave(delivery, FLASH and self.sync_on_put)
            self._go_on()
            return left
        if not delivery.stored:
            if journal.unread:  # it would overtake what is in the journal alone
                self._go_on()
                return None
            self.unstored += 1
        return super().put(delivery, False, now_ms)

    def _supersede(self, topic: str) -> None:
        with temporary():
            from .upkeep import supersede

            try:
                supersede(self, self.journal, topic)
            except OSError as error:
                self.journal.fail(error)

    def deferred(self, delivery: "Delivery") -> "Delivery":
        return Deferred(delivery)

    def decided(self, deferred: "Delivery", accepted: "Delivery") -> None:
        if isinstance(deferred, Deferred):
            deferred.accepted = accepted

    def take(self, now_ms: int) -> "Delivery | None":
        """Return the next message to send; None if there is none."""
        delivery = None
        while delivery is None and self.head is not None:
            delivery = super().take(now_ms)
            try:
                self._go_on()
            except MemoryError:
                if self.head is None:
                    if delivery is None:
                        raise
                    # It waits until there is memory for one behind it.
                    super().put_back(delivery)
                    return None
        journal = self.journal
        if self._backlog is not None and not journal.unread:
            self._backlog = None
            self._newest.clear()
        if delivery is not None:
            if delivery.stored:
                try:
                    journal.in_flight.append(delivery.stored)
                except MemoryError:
                    super().put_back(delivery)
                    raise
                journal.taken = delivery.stored
            else:
                delivery.stored = -1
        return delivery

    def put_back(self, delivery: "Delivery") -> None:
        """Have a message that was just taken be the first again."""
        super().put_back(delivery)
        if delivery.stored > 0:
            self.journal.in_flight.remove(delivery.stored)
            self.journal.taken = delivery.stored - 1
        else:
            delivery.stored = 0

    def forget(self, delivery: "Delivery") -> None:
        """Stop counting a message: it is acknowledged, or given up."""
        super().forget(delivery)
        journal = self.journal
        if not self.count:
            journal.taken = journal.next_number - 1  # none of them waits
        if delivery.stored > 0:
            journal.acknowledge(delivery.stored)
        else:
            self._unsaved = [entry for entry in self._unsaved if entry[0] is not delivery]

    # Writing

    def _write(self, delivery: "Delivery", newest_only: bool) -> bool:
        """Write a message to the journal; return False if it has no room there. Raise OSError."""
        journal = self.journal
        topic = delivery.topic.encode()
        size = RECORD_BYTES + len(topic) + len(delivery.payload)
        if not journal.has_room(size):
            if now_ms() < journal.full_until_ms:
                return False
            with temporary():
                from .compaction import make_room

                has_room = make_room(self, journal, self._newest, blocks(size))
            self._go_on()
            if not has_room:
                journal.full_until_ms = now_ms() + _PAUSE_MS
                return False
            if delivery.dropped:  # to make room
                return True
        flags = delivery.qos
        if delivery.retain:
            flags |= RETAIN
        if newest_only:
            flags |= NEWEST_ONLY
        expiry = expiry_s(delivery) if unix_time() > self._clock_floor_s else 0
        delivery.stored = journal.write(flags, topic, delivery.payload, expiry)
        self.failure = None
        if newest_only and journal.unread:
            self._newest[delivery.topic] = delivery.stored
        return True

    def _save(self) -> None:
        """Write what is to be written late and is not acknowledged yet.

        Raise OSError: then it is tried again once the storage is.
        """
        journal = self.journal
        while self._unsaved and journal.usable and now_ms() >= journal.retry_ms:
            delivery, newest_only = self._unsaved[0]
            in_flight = delivery.stored
            if not self._write(delivery, newest_only):
                self.unstored += 1
            elif in_flight:
                journal.in_flight.append(delivery.stored)
                journal.taken = delivery.stored
            self._unsaved = [entry for entry in self._unsaved if entry[0] is not delivery]

    def sync(self) -> None:
        """Bring to the storage what was put, and what is acknowledged; block for that long."""
        journal = self.journal
        with journal.lock:
            journal.due_ms = None
            try:
                self._save()
            except OSError as error:
                journal.fail(error)
        journal.sync()

    def tick(self) -> None:
        """Sync if it is due: on a board, which has no thread for that."""
        journal = self.journal
        if journal.alarm is None:
            try:
                with journal.lock:
                    self._go_on()
                if journal.due_ms is not None and now_ms() >= journal.due_ms:
                    self.sync()
            except MemoryError:  # there may be some later
                journal.due_ms = now_ms() + _SOON_MS

    def _storage_failed(self, error: OSError) -> None:
        with temporary():
            from .upkeep import storage_error

            self.failure = storage_error(self.journal.storage, error)
        self.journal.due_ms = self.journal.retry_ms if self._unsaved else None
        self._owner.last_error = self.failure

    # The directory, which other processes may use meanwhile

    def resume(self) -> None:
        """Take hold of the directory: at the start, or when it was left or could not be read.

        Raise OutboxInUse if another process has it, or has changed what is not delivered yet.
        """
        journal = self.journal
        with journal.lock:
            if journal.usable or (journal.left is None and now_ms() < journal.retry_ms):
                return
            with temporary():
                from .upkeep import start

                newest = start(journal, not self.count)
            if newest is not None:
                self._backlog = None
                self._newest = newest
                if journal.notes:
                    with temporary():
                        from .upkeep import recall

                        recall(self, journal, self._owner, newest, self._clock_floor_s)
                self._go_on()

    def release(self) -> None:
        """Bring all to the storage, and leave the directory to others until it is needed again."""
        self.sync()
        with self.journal.lock, temporary():
            from .upkeep import leave

            leave(self.journal)

    # What is in the journal alone

    def _need_backlog(self) -> "Backlog":
        if self._backlog is None:
            with temporary():
                from .reading import Backlog
            self._backlog = Backlog(self, self.journal, self._owner, self._newest)
        return self._backlog

    def _go_on(self) -> None:
        """Read on where nothing in memory waits any more: nobody asks an empty queue."""
        if self.head is None and self.journal.unread:
            self._need_backlog().read_on()

    def note(self, delivery: "Delivery", strikes: int, tries: int = 0, wait_ms: int = 0) -> None:
        """Note in the journal how a message gets on that the broker may refuse."""
        try:
            self._save()  # it may be one that is to be written late
        except OSError as error:
            self.journal.fail(error)
        if delivery.stored > 0:
            clock = unix_time() > self._clock_floor_s
            with temporary():
                from .upkeep import note

                due_s = unix_time() + wait_ms // 1000 if clock else 0
                note(self.journal, delivery, strikes, tries, due_s, clock)
