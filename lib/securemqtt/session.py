"""What both ends must agree on: packet ids, the in-flight window, and the keep-alive.

No I/O, and no clock is read here.
"""

from ._compat import TYPE_CHECKING, const, once, rare

if TYPE_CHECKING:
    from typing import Any

_LAST_ID = const(65535)


class Session:
    """The QoS 1 and 2 messages that are on their way, in their order, by packet id; and when the
    peer must be asked whether it is there.

    `size` bounds how many messages may be unacknowledged at a time. Ids of subscriptions come from
    here too, since they share one space ([MQTT-2.3.1-2]); `unanswered` has both, by packet id.

    Whoever drives it sets `sent_ms` when a packet went out and `received_ms` when bytes came in,
    both when a connection begins. With a `keep_alive_ms` of 0 nothing is ever due.
    """

    @once
    def __init__(self, size: int, first_id: int = 1, keep_alive_ms: int = 0) -> None:
        self._size = size
        self._next_id = first_id
        self.unanswered: "dict[int, Any]" = {}
        self._order: "list[int]" = []
        self._interval_ms = keep_alive_ms
        self.sent_ms = 0
        self.received_ms = 0
        self._pinged_ms = 0

    def room(self) -> int:
        """Return how many messages may be sent now."""
        return self._size - len(self._order)

    def add(self, what: "Any", counts: bool = True) -> int:
        """Note what is sent and return its packet id: one not in use, 1 to 65535, then from 1 again
        ([MQTT-2.3.1-1]).

        A SUBSCRIBE or UNSUBSCRIBE has an id, but does not count against the window. Where a board's
        memory runs out, nothing is noted.
        """
        packet_id = self._next_id
        while packet_id in self.unanswered:
            packet_id = packet_id % _LAST_ID + 1
        self._next_id = packet_id % _LAST_ID + 1
        if counts:
            self._order.append(packet_id)
        try:
            self.unanswered[packet_id] = what
        except MemoryError:
            if counts:
                self._order.pop()
            raise
        return packet_id

    def remove(self, packet_id: int) -> None:
        """Free an id: what was sent with it is acknowledged."""
        del self.unanswered[packet_id]
        if packet_id in self._order:
            self._order.remove(packet_id)

    @rare
    def unacknowledged(self) -> "list[int]":
        """Return the ids of the messages in flight, oldest first: what goes out again after a
        reconnect ([MQTT-4.4.0-1]).

        Ids of subscriptions are given up: they are made again from the list of subscriptions.
        """
        for packet_id in list(self.unanswered):
            if packet_id not in self._order:
                del self.unanswered[packet_id]
        return self._order

    def due(self, now_ms: int) -> int:
        """Return in how many ms there is something to do: 0 means a PINGREQ now (and it counts as
        sent), less than 0 that the peer is gone.

        MQTT 3.1.1, section 3.1.2.10: a ping is due one keep-alive after either side's last packet,
        so that an answer must come in any case; the peer counts as gone 1.5 × the keep-alive after
        the last byte from it.
        """
        interval = self._interval_ms
        if not interval:
            return 1 << 29
        received = self.received_ms
        dead_ms = received + interval * 3 // 2 - now_ms
        if dead_ms <= 0:
            return -1
        # Not >=: an answer may come within the millisecond of its ping.
        if self._pinged_ms > received:  # one is on its way: its answer is all there is to wait for
            return dead_ms
        ping_ms = min(self.sent_ms, received) + interval - now_ms
        if ping_ms > 0:
            return min(ping_ms, dead_ms)
        self._pinged_ms = self.sent_ms = now_ms
        return 0
