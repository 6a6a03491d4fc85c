"""The MicroPython backend: umqtt.simple writes the packets, this module decides when and waits for the answers.

umqtt's class is right about the bytes of PUBLISH and PINGREQ, so it writes them, into a `Stream` that makes one TLS record of them. What it
does around that is replaced: it blocks for the one answer, lets packet ids run over, hides PINGRESP, knows no deadline, no session and no
subscription made again (docs/ARCHITECTURE.md, "The MicroPython backend").
"""

import errno
import gc
import os

from umqtt.simple import MQTTClient

from .._compat import TYPE_CHECKING, const, now_ms, once, rare, rarely
from ..failure import failure, translated
from ..packets import Reader
from ..session import Window
from .stream import Stream

if TYPE_CHECKING:
    from typing import Any

    from ..messages import Message
    from ..outbox import Delivery
    from .contract import Owner

# How much is read in one turn: then the program has its turn, however much more there is.
_TURN_BYTES = const(4096)
# A packet that has begun must be whole within this time: a peer that trickles bytes is no better than a silent one.
_PACKET_MS = const(30000)
# How long leaving may take where the peer does not read.
_CLOSE_MS = const(5000)


class UmqttLink:
    """See contract.py. What QoS 2 takes is loaded with the first such message (umqtt_qos2.py)."""

    @once
    def __init__(self, settings: "dict[str, Any]", owner: "Owner") -> None:
        self._settings = settings
        self._owner = owner
        self.up = False
        self._context = rarely("backends.context_mbedtls").make_context(settings)
        self._stream = Stream()
        self._reader = Reader(settings["max_packet_bytes"])
        # Ids start anywhere, so that after a restart they are not those that a kept session may still know.
        self._window = Window(settings["window"], 1 + int.from_bytes(os.urandom(2), "big") % 65535)
        # umqtt's client as a writer of packets: `sock` is the stream that collects them.
        self._encoder = MQTTClient(settings["client_id"], settings["host"])
        self._encoder.sock = self._stream
        self._encoder.wait_msg = self._leave_umqtt
        self._opening: "Any" = None
        self._keep_alive: "Any" = None
        self._deadline_ms = 0
        self._packet_ms = 0
        self._epoch = 0
        self._doubtful = False
        self._exactly_once: "Any" = None

    @rare
    def wake(self) -> None:
        """Do nothing: there is one thread."""

    def room(self) -> int:
        return self._window.room()

    def open(self) -> None:
        rarely("backends.umqtt_rare").open_link(self)

    def serve(self, wait_ms: int) -> None:
        try:
            if self._opening is not None:
                end_ms = now_ms() + wait_ms
                for _ in self._opening:
                    if now_ms() >= end_ms:
                        return
                self._opening = None
                gc.collect()  # the handshake wants 20 kB in two pieces; what was lent for the way to here is gone
                self._stream.attach(self._context, self._settings["host"])
            self._serve(wait_ms)
        except Exception as error:
            stage = self._stream.stage
            self._drop()
            ours = translated(error, stage, self._settings)
            if ours is None:  # it is one of ours already, or a mistake in the program
                raise
            raise ours

    def send(self, delivery: "Delivery") -> None:
        if delivery.qos:
            self._write_publish(delivery, self._window.add(delivery), 0)
        else:
            self._write_publish(delivery, 0, 0)
            self._owner.link_acknowledged(delivery)

    @rare
    def request(self, topic_filter: str, qos: int) -> None:
        name = topic_filter.encode()
        packet_id = self._window.add(topic_filter, False)
        unsubscribing = qos < 0
        self._write_length(0xA2 if unsubscribing else 0x82, (4 if unsubscribing else 5) + len(name))
        self._stream.write(bytes((packet_id >> 8, packet_id & 255)))
        self._encoder._send_str(name)
        if not unsubscribing:
            self._stream.write(bytes((qos,)))

    def ack(self, message: "Message") -> None:
        if message.qos == 2:
            self._qos2().handled(message)
        elif self.up and message.epoch == self._epoch:
            self._write_head(0x40, message.packet_id)

    def close(self, orderly: bool) -> None:
        if orderly and self.up:
            self._leave()
        self._drop()

    @rare
    def _leave(self) -> None:
        """Write DISCONNECT, and all before it; what the peer does not take within 5 s is given up."""
        try:
            self._stream.write(b"\xe0\0")
            self._stream.drain(_CLOSE_MS)
        except OSError:
            self.up = False  # it is gone already: the broker sends the will then

    def _qos2(self) -> "Any":
        if self._exactly_once is None:
            self._exactly_once = rarely("backends.umqtt_qos2").ExactlyOnce(self)
        return self._exactly_once

    def _drop(self) -> None:
        self.up = False
        self._opening = None
        self._stream.close()
        self._reader.reset()

    # Reading

    def _serve(self, wait_ms: int) -> None:
        stream = self._stream
        now = now_ms()
        left_ms = self._left_ms(now)
        if left_ms < wait_ms:
            wait_ms = left_ms
        if stream.pending():
            self._keep_alive.sent_ms = now
        flushed = stream.flush()
        if flushed and stream.stage == "handshake":
            stream.stage = "connack"
        # Reading comes before waiting: what mbedTLS has buffered already does not show in the socket.
        if not self._read(stream) and stream.wait(wait_ms, not flushed):
            self._read(stream)

    def _read(self, stream: Stream) -> int:
        """Handle what is there; give how many bytes it was."""
        reader = self._reader
        total = 0
        while True:
            space = reader.space()
            count = stream.readinto(space)
            total += count
            if count:
                reader.fed(count)
                now = now_ms()
                self._keep_alive.received_ms = now
                while self._handle(reader):
                    self._packet_ms = 0
                if not reader.partial():
                    self._packet_ms = 0
                elif not self._packet_ms:
                    self._packet_ms = now
            if count < len(space) or total >= _TURN_BYTES:
                return total

    def _left_ms(self, now: int) -> int:
        """Give how long nothing needs to be done, at least 0; OSError(ETIMEDOUT) when a deadline has passed."""
        if not self.up:
            left_ms = self._deadline_ms - now
        elif self._packet_ms and now - self._packet_ms > _PACKET_MS:
            left_ms = 0
        else:
            left_ms = self._keep_alive.due(now)
            if not left_ms:
                self._encoder.ping()
                left_ms = 1
        if left_ms <= 0:
            raise OSError(errno.ETIMEDOUT)
        return left_ms

    def _handle(self, reader: Reader) -> bool:
        kind = reader.next()
        if not kind:
            return False
        data = reader.data
        at = reader.at
        if not self.up:
            if kind != 0x20:
                raise failure("MalformedPacket", "the broker sent something before CONNACK", kind)
            self._connected(data[at] & 1, data[at + 1])
        elif kind & 0xF0 == 0x30:
            from .umqtt_receive import received  # a board that receives nothing does without

            received(self, reader, kind, data, at)
        elif kind == 0xD0:
            return True
        elif kind == 0x20:
            raise failure("MalformedPacket", "the broker sent a second CONNACK", kind)
        else:
            packet_id = data[at] << 8 | data[at + 1]
            what = self._window.find(packet_id)
            if kind in (0x50, 0x62, 0x70):
                self._qos2().answered(kind, packet_id, what)
                return True
            # What was never sent, or not with this kind of packet, is acknowledged by a broker in error only: no harm in leaving it.
            if what is None or isinstance(what, str) == (kind == 0x40):
                return True
            self._window.remove(packet_id)
            if kind == 0x40:
                self._owner.link_acknowledged(what)
            elif kind == 0x90:
                self._owner.link_event("subscribed", what, data[at + 2] < 3)
            else:
                self._owner.link_event("unsubscribed", what)
        return True

    @rare
    def _connected(self, session_present: int, return_code: int) -> None:
        if return_code:
            raise rarely("diagnose").refused(return_code, self._settings)
        self.up = True
        self._stream.stage = "session"
        # A broker that had lost our session may have made one for an attempt whose CONNACK we never saw: then it is present, and empty.
        if self._doubtful:
            self._doubtful = False
            session_present = 0
        # Only within a kept session is it a second delivery [MQTT-3.3.1-1]; order first in any case [MQTT-4.6.0-1].
        released = self._exactly_once.resumed(session_present) if self._exactly_once else ()
        for packet_id in self._window.unacknowledged():
            if packet_id in released:
                self._write_head(0x62, packet_id)
                continue
            self._write_publish(self._window.find(packet_id), packet_id, 8 if session_present else 0)
        self._owner.link_event("up", bool(session_present))

    # Writing

    def _leave_umqtt(self) -> None:
        """Leave umqtt's code once it has written a packet and would wait for the answer; stands for its `wait_msg`."""
        # A new one each time: MicroPython adds to the traceback of an exception that is raised again, without bound.
        raise AssertionError

    def _write_publish(self, delivery: "Any", packet_id: int, dup: int) -> None:
        encoder = self._encoder
        encoder.pid = packet_id - 1  # umqtt takes the next one
        try:
            # umqtt puts `retain` into the first byte as it is, where DUP is bit 3.
            encoder.publish(delivery.topic.encode(), delivery.payload, (1 if delivery.retain else 0) | dup, delivery.qos)
        except AssertionError:  # ours, or umqtt's way of saying that it does not wait for the answer to QoS 2
            return

    def _write_head(self, kind: int, packet_id: int) -> None:
        """Write a packet that is an id and nothing else."""
        self._stream.write(bytes((kind, 2, packet_id >> 8, packet_id & 255)))

    @rare
    def _write_length(self, kind: int, size: int) -> None:
        head = bytearray((kind,))
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        head.append(size)
        self._stream.write(head)
