"""The MicroPython backend: umqtt.simple writes the packets, this module decides when and waits for
the answers.

umqtt's class is right about the bytes of PUBLISH and PINGREQ, so it writes them, into a `Stream`
that makes one TLS record of them. What it does around that is replaced: it blocks for the one
answer, lets packet ids run over, hides PINGRESP, knows no deadline, no session and no subscription
made again (docs/ARCHITECTURE.md, "The MicroPython backend").
"""

import errno
import gc
import os

from umqtt.simple import MQTTClient

from .._compat import TYPE_CHECKING, const, now_ms, once, rare, rarely
from ..failure import failure, translated
from ..packets import Reader
from ..session import Session
from .stream import Stream

if TYPE_CHECKING:
    from typing import Any

    from ..messages import Message
    from ..outbox import Delivery
    from .contract import Owner

# How much is read in one turn: then the program has its turn, however much more there is.
_TURN_BYTES = const(4096)
# A packet that has begun must be whole within this time: a peer that trickles bytes is no better
# than a silent one.
_PACKET_MS = const(30000)
# How long leaving may take where the peer does not read.
_CLOSE_MS = const(5000)


class UmqttLink(MQTTClient):  # type: ignore[misc]
    """See contract.py. As umqtt's client it writes packets: `sock` is the stream that collects
    them, `pid` the packet id before the next.

    What a device does that not only sends with QoS 0 and 1 is in umqtt_receive.py, and loaded with
    the first packet that comes to such a one.
    """

    @once
    def __init__(self, settings: "dict[str, Any]", owner: "Owner") -> None:
        # umqtt's own __init__ is left out: what it notes is for its ways to connect and to receive,
        # which are replaced.
        self._settings = settings
        self._owner = owner
        self.up = False
        self.sock = Stream(rarely("backends.context_mbedtls").make_context(settings))
        self.pid = 0
        self._reader = Reader(settings["max_packet_bytes"])
        # Ids start anywhere, so that after a restart they are not those that a kept session may
        # still know.
        first_id = 1 + int.from_bytes(os.urandom(2), "big") % 65535
        self._session = Session(settings["window"], first_id, settings["keep_alive_s"] * 1000)
        self._opening: "Any" = None
        # for the attempt, then for a packet that has begun; 0 if there is none
        self._deadline_ms = 0
        self._epoch = 0
        self._doubtful = False
        self._exactly_once: "Any" = None

    @rare
    def wake(self) -> None:
        """Do nothing: there is one thread."""

    def room(self) -> int:
        return self._session.room()

    def open(self) -> None:
        rarely("backends.umqtt_rare").open_link(self)

    def serve(self, wait_ms: int) -> None:
        stream = self.sock
        try:
            if self._opening is not None:
                for _ in self._opening:
                    return
                self._opening = None
                # the handshake wants 20 kB in two pieces; what was lent for the way to here is gone
                gc.collect()
                stream.attach(self._settings["host"])
            now = now_ms()
            # How long nothing needs to be done.
            left_ms = self._deadline_ms - now if self._deadline_ms else 1
            if self.up and left_ms > 0:
                left_ms = self._session.due(now)
                if not left_ms:
                    self.ping()
                    left_ms = 1
            if left_ms <= 0:
                raise OSError(errno.ETIMEDOUT)
            if stream.end:
                self._session.sent_ms = now
            flushed = stream.flush()
            if flushed and stream.stage == "handshake":
                stream.stage = "connack"
            # Reading comes before waiting: what mbedTLS has buffered already does not show in the
            # socket.
            if not self._read() and stream.wait(min(wait_ms, left_ms), not flushed):
                self._read()
        except Exception as error:
            stage = stream.stage
            self.close(False)
            ours = translated(error, stage, self._settings)
            if ours is None:  # it is one of ours already, or a mistake in the program
                raise
            raise ours

    def send(self, delivery: "Delivery", packet_id: int = 0, dup: int = 0) -> None:
        """See contract.py.

        One that goes out again has the packet id that it had, and `dup` is 8 within a session that
        was kept.
        """
        if delivery.qos and not packet_id:
            packet_id = self._session.add(delivery)
        self.pid = packet_id - 1  # umqtt takes the next one
        try:
            # umqtt puts `retain` into the first byte as it is, where DUP is bit 3.
            self.publish(
                delivery.topic.encode(),
                delivery.payload,
                (1 if delivery.retain else 0) | dup,
                delivery.qos,
            )
        # ours, or umqtt's way of saying that it does not wait for the answer to QoS 2
        except AssertionError:
            return
        # it is in the window, so it goes out again with the next connection
        except MemoryError as error:
            self.sock.broken = error
        finally:
            if not delivery.qos:
                self._owner.link_acknowledged(delivery)

    def wait_msg(self) -> None:
        """Leave umqtt's code where it has written a packet and would wait for the answer."""
        # A new one each time: MicroPython adds to the traceback of an exception that is raised
        # again, without bound.
        raise AssertionError

    @rare
    def request(self, topic_filter: str, qos: int) -> None:
        name = topic_filter.encode()
        packet_id = self._session.add(topic_filter, False)
        unsubscribing = qos < 0
        self._write_length(0xA2 if unsubscribing else 0x82, (4 if unsubscribing else 5) + len(name))
        self.sock.write(bytes((packet_id >> 8, packet_id & 255)))
        self._send_str(name)
        if not unsubscribing:
            self.sock.write(bytes((qos,)))

    @rare
    def _write_length(self, kind: int, size: int) -> None:
        head = bytearray((kind,))
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        head.append(size)
        self.sock.write(head)

    def ack(self, message: "Message") -> None:
        from .umqtt_receive import handled

        handled(self, message)

    def close(self, orderly: bool) -> None:
        if orderly and self.up:
            self._leave()
        self.up = False
        self._opening = None
        self.sock.close()
        self._reader.reset()

    @rare
    def _leave(self) -> None:
        """Write DISCONNECT, and all before it; what the peer does not take within 5 s is given
        up.
        """
        try:
            self.sock.write(b"\xe0\0")
            self.sock.drain(_CLOSE_MS)
        except (OSError, MemoryError):
            self.up = False  # it is gone already: the broker sends the will then

    # Reading

    def _read(self) -> int:
        """Handle what is there; return how many bytes it was."""
        reader = self._reader
        total = 0
        while True:
            space = reader.space()
            count = self.sock.readinto(space)
            total += count
            if count:
                reader.fed(count)
                now = now_ms()
                self._session.received_ms = now
                while self._handle(reader):
                    self._deadline_ms = 0
                if not reader.partial():
                    self._deadline_ms = 0
                elif not self._deadline_ms:
                    self._deadline_ms = now + _PACKET_MS
            if count < len(space) or total >= _TURN_BYTES:
                return total

    def _handle(self, reader: Reader) -> bool:
        kind = reader.next()
        if not kind:
            return False
        if not self.up:
            self._connected(kind)
        elif kind == 0x40:
            data = reader.data
            packet_id = data[reader.at] << 8 | data[reader.at + 1]
            delivery = self._session.unanswered.get(packet_id)
            # What was never sent, or not as a message, is acknowledged by a broker in error only:
            # no harm in leaving it.
            if delivery is not None and not isinstance(delivery, str):
                self._session.remove(packet_id)
                self._owner.link_acknowledged(delivery)
        elif kind != 0xD0:
            from .umqtt_receive import received  # a device that only sends does without

            received(self, reader, kind)
        return True

    @rare
    def _connected(self, kind: int) -> None:
        """Take CONNACK, and write again what was in flight."""
        if kind != 0x20:
            raise failure("MalformedPacket", "the broker sent something before CONNACK", kind)
        reader = self._reader
        session_present = reader.data[reader.at] & 1
        return_code = reader.data[reader.at + 1]
        if return_code:
            raise rarely("diagnose").refused(return_code, self._settings)
        self.up = True
        self.sock.stage = "session"
        # A broker that had lost our session may have made one for an attempt whose CONNACK we never
        # saw: then it is present, and empty.
        if self._doubtful:
            self._doubtful = False
            session_present = 0
        # Only within a kept session is it a second delivery [MQTT-3.3.1-1]; order first in any case
        # [MQTT-4.6.0-1].
        released = self._exactly_once.resumed(session_present) if self._exactly_once else ()
        for packet_id in self._session.unacknowledged():
            if packet_id in released:
                self.sock.write(bytes((0x62, 2, packet_id >> 8, packet_id & 255)))
            else:
                self.send(
                    self._session.unanswered[packet_id], packet_id, 8 if session_present else 0
                )
        self._owner.link_event("up", bool(session_present))
