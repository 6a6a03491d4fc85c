"""What both ends must agree on: packet ids, the in-flight window, and the keep-alive. No I/O, and no clock is read here.

The MicroPython backend drives these; on CPython paho-mqtt has a window and ids of its own, and only `KeepAlive` is used.
"""

from ._compat import TYPE_CHECKING, const, once, rare

if TYPE_CHECKING:
    from typing import Any

_LAST_ID = const(65535)


class Window:
    """The QoS 1 and 2 messages that are on their way, in their order, by packet id.

    `size` bounds how many may be unacknowledged at a time. Ids of subscriptions come from here too, since they share one space ([MQTT-2.3.1-2]).
    """

    @once
    def __init__(self, size: int, first_id: int = 1) -> None:
        self.size = size
        self._next_id = first_id
        self._sent: "dict[int, Any]" = {}
        self._order: "list[int]" = []

    def room(self) -> int:
        """Give how many messages may be sent now."""
        return self.size - len(self._order)

    def add(self, what: "Any", counts: bool = True) -> int:
        """Note what is sent and give its packet id: one not in use, 1 to 65535, then from 1 again ([MQTT-2.3.1-1]).

        A SUBSCRIBE or UNSUBSCRIBE has an id, but does not count against the window.
        """
        packet_id = self._next_id
        while packet_id in self._sent:
            packet_id = packet_id % _LAST_ID + 1
        self._next_id = packet_id % _LAST_ID + 1
        self._sent[packet_id] = what
        if counts:
            self._order.append(packet_id)
        return packet_id

    def find(self, packet_id: int) -> "Any":
        """Give what was sent with this id; None if nothing was."""
        return self._sent.get(packet_id)

    def remove(self, packet_id: int) -> None:
        """Free an id: what was sent with it is acknowledged."""
        del self._sent[packet_id]
        if packet_id in self._order:
            self._order.remove(packet_id)

    @rare
    def unacknowledged(self) -> "list[int]":
        """Give the ids of the messages in flight, oldest first: what goes out again after a reconnect ([MQTT-4.4.0-1]).

        Ids of subscriptions are given up: they are made again from the list of subscriptions.
        """
        for packet_id in list(self._sent):
            if packet_id not in self._order:
                del self._sent[packet_id]
        return self._order


class KeepAlive:
    """When to send PINGREQ, and when a silent peer counts as gone (MQTT 3.1.1, section 3.1.2.10). 0 ms turns both off.

    Whoever drives it sets `sent_ms` when a packet went out and `received_ms` when bytes came in. A ping is due one keep-alive after either, so
    that an answer must come in any case; the peer counts as gone 1.5 × the keep-alive after the last byte from it.
    """

    def __init__(self, keep_alive_ms: int, now_ms: int) -> None:
        self._interval_ms = keep_alive_ms
        self.sent_ms = now_ms
        self.received_ms = now_ms
        self._pinged_ms = now_ms - 1

    def due(self, now_ms: int) -> int:
        """Give in how many ms there is something to do: 0 means a PINGREQ now (and it counts as sent), less than 0 that the peer is gone."""
        interval = self._interval_ms
        if not interval:
            return 1 << 29
        dead_ms = self.received_ms + interval * 3 // 2 - now_ms
        if dead_ms <= 0:
            return -1
        # Not >=: an answer may come within the millisecond of its ping.
        if self._pinged_ms > self.received_ms:  # one is on its way: its answer is all there is to wait for
            return dead_ms
        ping_ms = min(self.sent_ms, self.received_ms) + interval - now_ms
        if ping_ms > 0:
            return min(ping_ms, dead_ms)
        self._pinged_ms = self.sent_ms = now_ms
        return 0
