"""Parking: one message at which the broker hangs up must not keep all others from arriving.

No I/O, and no clock is read here. Loaded with the first strike, and forgotten again once nothing is
suspected and nothing parked. A strike is the peer's end (FIN, RST, close_notify) of a connection
that had accepted us, while a message was in flight. How a message gets on is one number, its
strikes:

    1      the connection ended while it was the oldest in flight
    2      it did so twice in a row: from here on what was in flight goes out alone, one message
           after the other, in its order, each connection beginning with a PINGREQ that must be
           answered
    3, 4   it did so once, and twice, while the message was on its way alone
    5      three times: it is passed over, and those behind it are tried
    6      the broker has taken one of those behind it, or there is none and the connection has
           lived longer than those three: now it goes once more, on that same connection
    7      the broker ended this one, too: it is parked

So what would have ended any connection (a restart, a takeover, a limit on the rate) parks nothing:
between the strikes the broker has taken another message. A parked message is tried again, alone,
once all behind it is acknowledged and its time has come. docs/outbox.md has all that in words.
"""

from ..platform import const
from .parked import PARKED, Entry, Parked

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from ..messages import Delivery
    from ..protocol.session import Session
    from ..transport.base import Link
    from .parked import Outbox as Evicting

    class Outbox(Evicting, Protocol):
        """memory.Outbox, as far as it is seen from here; it has a `Parking` itself."""

        head: Delivery | None
        parking: "Parking | None"

        def take(self, now_ms: int) -> Delivery | None:
            """Return the next message to send."""


_CAREFUL = const(2)
_PASSED_OVER = const(5)
_CONFIRMING = const(6)
# How long it takes at most until a connection is tried again that a message may have ended; and
# where one after the other does.
_SOON_MS = const(2000)
_LATER_MS = const(120000)
# Where none of the three lives is known, after a restart: no broker thinks longer before it ends a
# connection for what it does not like.
_LIVED_MS = const(2000)


class Parking:
    """The messages of one client that may be refused, and those that are.

    `careful`: what goes out goes alone, one message at a time.
    """

    def __init__(self, outbox: "Outbox") -> None:
        self._outbox = outbox
        self.parked = Parked(outbox)
        self.careful = False
        # By number, the strikes of messages that an earlier process has left in the journal.
        self._notes: "dict[int, int]" = {}
        # Those under suspicion, in their order; while careful, all that is to go before others.
        self._entries: "list[Entry]" = []
        self._alone: "Entry | None" = None  # what is on its way alone
        self._due: "Entry | None" = None  # the parked one that is to be tried again
        self._session_present = False
        self._answered = False  # whether this connection has answered our PINGREQ
        self._pongs = -1  # how many answers there were before that; -1: it is not sent yet
        self._since_ms = 0  # when the one was sent that is alone; without it: since when none is
        self._lived_ms = -1  # the longest of the connections that a message alone has ended

    def _end(self) -> None:
        """Let go of all this where there is nothing left to do."""
        if not (self.careful or self._entries or self._notes or self.parked.any()):
            self._outbox.parking = None

    # What an earlier process has left

    def begin(self, notes: "dict[int, int]") -> None:
        """Take in, by number, the strikes of messages that are still to be read."""
        self._notes = notes
        # They come first, and are known once they are read.
        self.careful = bool(notes)
        self._end()

    def connected(self, link: "Link", session_present: bool) -> None:
        """A connection stands: what is in flight and not withheld has been written again."""
        self._restart()
        self.parked.session = link.session
        self._session_present = session_present
        for entry in self._entries:
            if entry.strikes == _CONFIRMING:  # that was for the connection before this one
                entry.strikes = _PASSED_OVER

    def lost(self, link: "Link", by_peer: bool, now: int) -> "tuple[Entry | None, int]":
        """A connection is gone.

        Return what is parked now, if anything; and within how many ms the next attempt is to come,
        0 for the usual back-off.
        """
        alone = self._alone
        self._restart()
        self.parked.session = session = link.session
        suspects = [one for one in session.unacknowledged() if not link.is_released(one)]
        again_ms = 0
        if not self.careful:
            alone = None
            again_ms = _SOON_MS
            if by_peer and suspects:
                self._oldest_struck(session.unanswered[suspects[0]])
            if not self.careful:
                self._end()
                return None, 0
        self._withhold(session, suspects)
        if alone is not None and alone.packet_id not in suspects:
            # QoS 2, and PUBREC has come: PUBREL goes by itself.
            if alone in self.parked.entries:
                self.parked.accept(alone)
            else:
                self._entries.remove(alone)
            alone = None
        if not by_peer:
            return None, 0
        return (None, again_ms) if alone is None else self._struck(alone, now)

    def _withhold(self, session: "Session", packet_ids: "list[int]") -> None:
        """Keep what is in flight from going out again by itself."""
        for packet_id in packet_ids:
            session.withhold(packet_id)
            entry = self._find(session.unanswered[packet_id])
            if entry is None:
                entry = Entry(session.unanswered[packet_id])
                self._entries.append(entry)
            entry.packet_id = packet_id

    def _restart(self) -> None:
        self._alone = self._due = self.parked.trying = None
        self._answered = False
        self._pongs = -1

    def _oldest_struck(self, oldest: "Delivery") -> None:
        """Note a strike for the oldest in flight; it counts only if it follows another one."""
        entry = self._find(oldest)
        if entry is None:
            entry = Entry(oldest)
        self._entries = [entry]
        self._strike(entry)
        self.careful = entry.strikes >= _CAREFUL

    def _struck(self, entry: Entry, now: int) -> "tuple[Entry | None, int]":
        """Note a strike for what was on its way alone."""
        self._lived_ms = max(self._lived_ms, now - self._since_ms)
        if entry.strikes < PARKED:
            self._strike(entry)
            if entry.strikes < PARKED:
                # The more are passed over, the more it looks as if the broker took none at all.
                again_ms = _SOON_MS
                if entry.strikes == _PASSED_OVER:
                    again_ms <<= len(self._passed_over()) - 1
                return None, min(again_ms, _LATER_MS)
            self._entries.remove(entry)
        self.parked.add(entry, now)
        self.careful = bool(self._entries)
        return entry, _SOON_MS

    def _strike(self, entry: Entry) -> None:
        entry.strikes += 1
        if entry.strikes <= _PASSED_OVER:
            self._outbox.note(entry.delivery, entry.strikes)

    def acknowledged(self, delivery: "Delivery") -> None:
        """The broker has taken a message over."""
        entry = self._find(delivery)
        self.parked.acknowledged(delivery)
        if entry in self._entries:
            self._entries.remove(entry)
        if entry is not None and entry is self._alone:
            self._alone = self.parked.trying = None
            self._confirm()
        self._end()

    def _confirm(self) -> None:
        """It is not the connection: what was passed over is to go once more."""
        for entry in self._passed_over():
            self._strike(entry)

    def feed(self, link: "Link", now: int, sent: "Callable[[Delivery, bool], None]") -> bool:
        """Send what is to go alone, if it is its time; return True if all may go as usual.

        `sent(delivery, again)` is called for what is sent here.
        """
        if self.parked.entries:
            self._look_after_parked(link, now)
        if not self.careful:
            self._end()
            return True
        if self._pongs < 0:
            self._pongs = link.session.pongs
            link.ping()
        if link.session.pongs == self._pongs:
            return False
        if not self._answered:
            self._answered = True
            self._since_ms = now
        while self._alone is None and self.careful:
            entry = self._next(now)
            if entry is not None:
                self._send(link, entry, now, sent)
            elif not self._passed_over():
                self.careful = False
            elif now - self._since_ms > (_LIVED_MS if self._lived_ms < 0 else self._lived_ms):
                self._confirm()  # nothing lies behind, and this connection outlives those
            else:
                return False
        self._end()
        return not self.careful

    def _next(self, now: int) -> "Entry | None":
        """Return what is to go out next; None if there is nothing."""
        for entry in self._entries:
            if entry.strikes != _PASSED_OVER:
                return entry
        while self._entries or self._notes:
            delivery = self._outbox.take(now)
            if delivery is None:
                self._notes = {}  # those are gone
                return None
            entry = Entry(delivery, self._noted(delivery.stored))
            self._entries.append(entry)
            if entry.strikes != _PASSED_OVER:
                return entry
        due, self._due = self._due, None
        return due if due is not None and due in self.parked.entries else None

    def _send(
        self, link: "Link", entry: Entry, now: int, sent: "Callable[[Delivery, bool], None]"
    ) -> None:
        delivery = entry.delivery
        again = entry.packet_id != 0
        if delivery.qos:
            self._alone = entry
            self._since_ms = now
            if entry.strikes >= PARKED:
                self.parked.trying = entry
        if not again:
            try:
                link.send(delivery)  # QoS 0 is acknowledged in there
            except MemoryError:  # it was not sent
                self._alone = None
                raise
        elif entry.packet_id in link.session.withheld:  # else the link has done so already
            link.session.restore(entry.packet_id)
            link.send(delivery, entry.packet_id, 8 if self._session_present else 0)
        sent(delivery, again)

    def _look_after_parked(self, link: "Link", now: int) -> None:
        """Let those expire whose time has come; see whether one is to be tried again."""
        outbox = self._outbox
        outbox.expire(now)
        if not self.careful and outbox.head is None and link.session.idle():
            self._due = self.parked.due(now)
            self.careful = self._due is not None

    def _passed_over(self) -> "list[Entry]":
        return [entry for entry in self._entries if entry.strikes == _PASSED_OVER]

    def _find(self, delivery: "Delivery") -> "Entry | None":
        for entry in self._entries + self.parked.entries:
            if entry.delivery is delivery:
                return entry
        return None

    def _noted(self, number: int) -> int:
        """Return how many strikes a message has from an earlier process."""
        strikes = self._notes.get(number, 0)
        for one in list(self._notes):
            if one <= number:  # those of messages that are gone go, too
                del self._notes[one]
        return strikes
