"""The messages that are parked: put aside since the broker ends the connection at them, and tried
again less and less often. How they got there is parking.py's business.

No I/O, and no clock is read here.
"""

from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Protocol

    from ..messages import Delivery
    from ..protocol.session import Session

    class Outbox(Protocol):
        """memory.Outbox, as far as it is seen from here."""

        expired: int

        def give_up(self, delivery: Delivery) -> None:
            """Note that a message is given up."""

        def expire(self, now_ms: int) -> None:
            """Evict what has expired."""

        def note_expiry(self, delivery: Delivery) -> None:
            """Have `expire` look at a message when its time has come."""

        def note(self, delivery: Delivery, strikes: int, tries: int = 0, wait_ms: int = 0) -> None:
            """Note how a message gets on."""


# The strikes of a message that is parked.
PARKED = const(7)
# It is tried again after so long, then after twice as long, and so on up to a day.
_RETRY_MS = const(600000)
_LONGEST_RETRY_MS = const(86400000)


class Entry:
    """What is known of a message: how many strikes it has, and, once parked, when to try it again.

    `packet_id` is the one that is reserved for it, 0 if none.
    """

    __slots__ = ("delivery", "due_ms", "number", "packet_id", "strikes", "tries")

    def __init__(self, delivery: "Delivery", strikes: int = 0) -> None:
        self.delivery = delivery
        self.number = delivery.stored  # in the journal, before it was parked
        self.packet_id = 0
        self.strikes = strikes
        self.tries = 0  # how often it was tried again in vain since it was parked
        self.due_ms = 0


class Parked:
    """The parked messages of one outbox, oldest first."""

    def __init__(self, outbox: "Outbox") -> None:
        self._outbox = outbox
        self.entries: "list[Entry]" = []
        self.left: "list[int]" = []  # numbers, in the journal, of those that memory has no room for
        # Those of QoS 2 that the broker has received after all: PUBCOMP is still to come.
        self.received: "list[Entry]" = []
        self.trying: "Entry | None" = None  # the one that is on its way again
        self.session: "Session | None" = None  # of the connection that stands, or stood last

    @property
    def count(self) -> int:
        """How many messages are parked."""
        return len(self.entries) + len(self.left)

    def any(self) -> bool:
        """Return True if there is anything to keep in mind."""
        return bool(self.entries or self.left or self.received)

    def add(self, entry: Entry, now: int) -> None:
        """Park a message, or have one that was tried again in vain wait for longer."""
        if entry in self.entries:
            entry.tries += 1
        else:
            self.entries.append(entry)
        wait_ms = _retry_ms(entry.tries)
        entry.due_ms = now + wait_ms
        self._outbox.note(entry.delivery, PARKED, entry.tries, wait_ms)
        self._outbox.note_expiry(entry.delivery)

    def recall(self, delivery: "Delivery", tries: int, wait_ms: "int | None", now: int) -> None:
        """Take in one that an earlier process has left, tried again so often in vain.

        It is tried next in `wait_ms`; None: it waits anew.
        """
        entry = Entry(delivery, PARKED)
        entry.tries = tries
        entry.due_ms = now + (_retry_ms(tries) if wait_ms is None else wait_ms)
        self.entries.append(entry)
        self._outbox.note_expiry(delivery)

    def due(self, now: int) -> "Entry | None":
        """Return the first one whose time has come."""
        for entry in self.entries:
            if entry.due_ms <= now:
                return entry
        return None

    def accept(self, entry: Entry) -> None:
        """Note PUBREC for the one that is on its way again: PUBREL goes by itself."""
        self.entries.remove(entry)
        self.received.append(entry)

    def acknowledged(self, delivery: "Delivery") -> None:
        """Note that the broker has taken a message over, parked or not."""
        for entries in (self.entries, self.received):
            for entry in entries:
                if entry.delivery is delivery:
                    entries.remove(entry)
                    self._outbox.note(delivery, 0)
                    return

    # As the outbox sees it

    def numbers(self) -> "list[int]":
        """Return the numbers that parked messages have in the journal."""
        kept = [entry.delivery.stored for entry in self.entries + self.received]
        return kept + self.left

    def of_number(self, number: int) -> "Delivery | None":
        """Return the parked message that had this number before."""
        for entry in self.entries:
            if entry.number == number:
                return entry.delivery
        return None

    def sweep(self, topic: "str | None", now: int) -> None:
        """Evict, and count, what is parked on `topic` and what has expired."""
        for entry in list(self.entries):
            delivery = entry.delivery
            expires_ms = delivery.expires_ms
            stale = expires_ms is not None and expires_ms <= now
            if (stale or delivery.topic == topic) and self._evict(entry):
                self._outbox.expired += 1
            else:
                self._outbox.note_expiry(delivery)

    def evict_first(self) -> bool:
        """Give up the message that was parked first; return False if there is none."""
        return any(self._evict(entry) for entry in list(self.entries))

    def evict_numbers(self, first: int, end: int) -> int:
        """Give up those with numbers from `first` up to `end`; return how many."""
        found = [entry for entry in self.entries if first <= entry.delivery.stored < end]
        return sum(self._evict(entry) for entry in found)

    def _evict(self, entry: Entry) -> bool:
        """Give a parked message up, unless it is in flight again; return True if it was."""
        if entry is self.trying:
            return False
        delivery = entry.delivery
        self.entries.remove(entry)
        self._outbox.note(delivery, 0)
        self._outbox.give_up(delivery)
        if self.session is not None and entry.packet_id:
            self.session.give_up(entry.packet_id)
        return True


def _retry_ms(tries: int) -> int:
    """Return how long a parked message waits after so many tries in vain."""
    return min(_RETRY_MS << min(tries, 10), _LONGEST_RETRY_MS)
