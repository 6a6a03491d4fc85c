"""What a connection keeps of the protocol: packets cut out of what comes in, heads of what goes
out; packet ids, the in-flight window, and the keep-alive.

No I/O, and no clock is read here; bounded memory; nothing allocated per byte.
"""

from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

    from ..errors import MalformedPacket

_LAST_ID = const(65535)
_PING = const(-1)
# The answers to a window of 20 are 80 bytes. A device that receives more has a larger buffer from
# the first such packet on: see incoming.py.
_BUFFER_BYTES = const(128)

# First byte, and size, of what comes to every device: CONNACK, PUBACK, PINGRESP.
_USUAL = (0x2002, 0x4002, 0xD000)


# Packets as bytes (MQTT 3.1.1, section 2.2)


def head(kind: int, size: int) -> bytearray:
    """Return a packet's fixed header: its first byte, and how long the rest is (section 2.2.3)."""
    packet = bytearray((kind,))
    while size > 127:
        packet.append(size & 127 | 128)
        size >>= 7
    packet.append(size)
    return packet


def with_id(kind: int, packet_id: int) -> bytes:
    """Return a packet that is an id and nothing else, such as PUBACK."""
    return bytes((kind, 2, packet_id >> 8, packet_id & 255))


class Reader:
    """Takes bytes in whatever pieces they come and gives whole packets.

    The caller reads into `space()`, reports how much with `fed(n)`, then calls `next()` until it
    gives 0. A packet's body is `data[at : at + size]`, valid until the next call. A PUBLISH above
    `max_bytes` is not stored: `oversized` is then its size, and the body holds its beginning only,
    which names the topic and the packet id; that much may be as long as `max_bytes` or the buffer.

    What is not whole lies in `data` from `start` to `end`; that is `view`, or a buffer that one
    packet has to itself. Where `start` is beyond `end`, what comes up to there belongs to an
    oversized packet, and is thrown away.
    """

    def __init__(self, max_bytes: int, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self.max_bytes = max_bytes
        self.at = 0
        self.size = 0
        self.oversized = 0
        self.view = memoryview(bytearray(buffer_bytes))
        self.reset()

    def reset(self) -> None:
        """Forget what came from a connection that is gone."""
        self.data = self.view
        self.start = 0
        self.end = 0

    def space(self) -> memoryview:
        """Return where the next bytes are to be read into; never empty."""
        data = self.data
        if self.start:
            # Only the beginning of one packet is ever left over, so this moves less than a buffer,
            # once per read.
            rest = max(self.end - self.start, 0)
            if rest:
                data[:rest] = data[self.start : self.end]
            self.start += rest - self.end
            self.end = rest
        return data[self.end :] if self.end else data

    def fed(self, count: int) -> None:
        """Note that `count` bytes were read into `space()`."""
        self.end += count

    def partial(self) -> bool:
        """Return True if a packet has begun that is not whole yet."""
        return self.start != self.end

    def next(self) -> int:
        """Return the first byte of the next whole packet, 0 if there is none yet.

        Raise MalformedPacket.
        """
        at = self.start
        end = self.end
        if at >= end:
            self.data = self.view  # lets a large packet go that was given before
            return 0
        data = self.data
        kind = data[at]
        size = shift = 0
        while True:
            at += 1
            if at >= end:
                return 0
            size |= (data[at] & 127) << shift
            if data[at] < 128:
                break
            shift += 7
            if shift > 21:
                raise _malformed("a packet's length takes more than four bytes", kind)
        at += 1
        self.at = at
        self.size = size
        self.oversized = 0
        if kind << 8 | size not in _USUAL:
            from .incoming import whole  # a device that only sends does without

            return whole(self, kind)
        if at + size > end:
            return 0
        self.start = at + size
        return kind


def _malformed(what: str, code: object) -> "MalformedPacket":
    from ..errors import MalformedPacket

    return MalformedPacket(what, code)


# The session's state


class Session:
    """The QoS 1 and 2 messages that are on their way, in their order, by packet id; and when the
    peer must be asked whether it is there.

    `size` bounds how many messages may be unacknowledged at a time. Ids of subscriptions come from
    here too, since they share one space ([MQTT-2.3.1-2]); `unanswered` has both, by packet id.
    `withheld` are the ids of messages that are not to go out again by themselves. `pongs` counts
    PINGRESP.

    Whoever drives it calls `begin` with each connection, sets `sent_ms` when a packet went out and
    `received_ms` when bytes came in. With a `keep_alive_ms` of 0 nothing is ever due.

    `answers` counts the acknowledgements that we wrote for what came in. So many as `confirmed`
    says the broker has read for certain: it has answered what was sent after them.
    """

    def __init__(self, size: int, first_id: int = 1, keep_alive_ms: int = 0) -> None:
        self._size = size
        self._next_id = first_id
        self.unanswered: "dict[int, Any]" = {}
        self._order: "list[int]" = []
        self.withheld: "list[int]" = []
        self.pongs = 0
        self._interval_ms = keep_alive_ms
        self.sent_ms = 0
        self.received_ms = 0
        self._pinged_ms = 0
        self._looked_ms = 0  # when `due` was asked last
        self._grace_ms = 0  # until when the peer has time after the loop was away; 0: no such time
        self.doubtful = False  # an attempt wrote CONNECT and saw no CONNACK
        self.unasked = False  # the broker has kept a session that was to be a clean one
        self.in_doubt = False  # it has a session for us, which may be a new one: see `accepted`
        self.answers = 0
        self.confirmed = 0
        # What is on its way, sent after so many acknowledgements; 0 if nothing is.
        self._witness = 0
        self._witnessed = 0

    def begin(self, now_ms: int) -> None:
        """Note that a connection begins."""
        self.sent_ms = self.received_ms = self._looked_ms = now_ms
        self._grace_ms = self._witness = 0

    def accepted(self, flags: int, clean_session: bool) -> bool:
        """Note CONNACK; return True if the broker has kept our session. Raise MalformedPacket.

        A broker that had lost it may have made one for an attempt whose CONNACK we never saw: then
        it is present, and empty. Where a clean one was asked for, there is none, whatever the
        broker says ([MQTT-3.2.2-1]). Ids of subscriptions are given up: those are made again.
        """
        if flags > 1:
            raise _malformed("reserved flags in CONNACK", flags)
        if flags and clean_session:
            self.unasked = True
        kept = bool(flags) and not (self.doubtful or clean_session)
        self.in_doubt = bool(flags) and not (kept or clean_session)
        self.doubtful = False
        for packet_id in list(self.unanswered):
            if packet_id in self.withheld:
                if not kept and self.unanswered[packet_id] is None:
                    self.remove(packet_id)
            elif packet_id not in self._order:
                del self.unanswered[packet_id]
        return kept

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
        self._send_witness(packet_id)
        return packet_id

    def find(self, packet_id: int) -> "Any":
        """Return what was sent with an id and is not answered; None if nothing is, which is the
        broker's mistake, and does no harm. Raise MalformedPacket for 0, which is no id.
        """
        if not packet_id:
            raise _malformed("a packet id of 0", packet_id)
        return self.unanswered.get(packet_id)

    def remove(self, packet_id: int) -> None:
        """Free an id: what was sent with it is acknowledged."""
        del self.unanswered[packet_id]
        for ids in (self._order, self.withheld):
            if packet_id in ids:
                ids.remove(packet_id)

        if packet_id == self._witness:
            self._witness_answered()

    def give_up(self, packet_id: int) -> None:
        """Let go of a message that is withheld; its id stays in use as long as the session."""
        self.unanswered[packet_id] = None

    def answered(self) -> int:
        """Note that an acknowledgement was written; return which one of ours it is."""
        self.answers += 1
        return self.answers

    def pong(self) -> None:
        """Note PINGRESP."""
        self.pongs += 1
        if self._witness == _PING:
            self._witness_answered()

    def _send_witness(self, packet_id: int) -> None:
        if not self._witness and self.answers > self.confirmed:
            self._witness = packet_id
            self._witnessed = self.answers

    def _witness_answered(self) -> None:
        self.confirmed = self._witnessed
        self._witness = 0

    def idle(self) -> bool:
        """Return True if no message is in flight."""
        return not self._order

    def withhold(self, packet_id: int) -> None:
        """Take a message out of the window; its id stays in use."""
        self._order.remove(packet_id)
        self.withheld.append(packet_id)

    def restore(self, packet_id: int) -> None:
        """Put a message that was withheld back into the window, as the last one."""
        self.withheld.remove(packet_id)
        self._order.append(packet_id)

    def unacknowledged(self) -> "list[int]":
        """Return the ids of the messages in flight, oldest first: what goes out again after a
        reconnect ([MQTT-4.4.0-1]).
        """
        return list(self._order)

    def ask(self, now_ms: int) -> bool:
        """Return True if a PINGREQ is to go out now, though none is due, and count it as sent;
        False if one is on its way, whose answer is as good.
        """
        if self._pinged_ms > self.received_ms:
            return False
        self._ping(now_ms)
        return True

    def due(self, now_ms: int) -> int:
        """Return in how many ms there is something to do: 0 means a PINGREQ now (and it counts as
        sent), less than 0 that the peer is gone.

        MQTT 3.1.1, section 3.1.2.10: a ping is due one keep-alive after either side's last packet,
        so that an answer must come in any case; the peer counts as gone 1.5 × the keep-alive after
        the last byte from it. It is judged only by a loop that was there to hear it: one that was
        away for longer than the keep-alive pings, and gives it half a keep-alive from then, once
        in a silence. So ask this when what was to be sent is written and a read has found nothing.
        """
        interval = self._interval_ms
        if not interval:
            return 1 << 29
        received = self.received_ms
        grace = interval // 2
        # Once in a silence: not if nothing was heard since the last one was given.
        away = now_ms - self._looked_ms > interval and self._grace_ms - grace <= received
        self._looked_ms = now_ms
        if away and now_ms - received > interval:
            self._grace_ms = now_ms + grace
            return self._ping(now_ms)
        dead_ms = max(received + interval * 3 // 2, self._grace_ms) - now_ms
        if dead_ms <= 0:
            return -1
        # Not >=: an answer may come within the millisecond of its ping.
        if self._pinged_ms > received:  # one is on its way: its answer is all there is to wait for
            return dead_ms
        ping_ms = min(self.sent_ms, received) + interval - now_ms
        if ping_ms > 0:
            return min(ping_ms, dead_ms)
        return self._ping(now_ms)

    def _ping(self, now_ms: int) -> int:
        self._pinged_ms = self.sent_ms = now_ms
        self._send_witness(_PING)
        return 0
