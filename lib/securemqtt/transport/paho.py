"""The CPython backend: paho-mqtt keeps the session and writes the packets, this module moves the
bytes and sets the deadlines.

paho writes into a pipe of memory and is fed whole, checked packets from one, so no call into it
ever waits for the network. What it does well is left to it: CONNECT, PUBLISH and SUBSCRIBE as
bytes, and messages in flight, kept over reconnects and sent again in their order with DUP. What it
does otherwise than docs/ARCHITECTURE.md promises is done here; the list is there.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Iterator

from ..diagnosis.finding import Finding
from ..diagnosis.translate import refused, translate
from ..errors import ConnectionLost, MalformedPacket
from ..messages import Delivery, Message
from ..platform import now_ms, random_between
from ..process import disown_in_children
from ..protocol.incoming import message_of
from ..protocol.session import Reader, Session, with_id
from ..settings import Settings
from ..tls.openssl import make_context
from .base import Owner
from .paho_engine import Engine
from .probe_openssl import probe
from .stream_openssl import Stream
from .waiting import Waiting

_CONNACK, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP, _SUBACK, _PINGRESP = (
    0x20,
    0x40,
    0x50,
    0x62,
    0x70,
    0x90,
    0xD0,
)
_PINGREQ = b"\xc0\x00"
# What stands still for this long, a packet half-way in or records half-way out, does not come to an
# end by itself.
_STALL_MS = 30_000
# A packet may come slowly, but not more slowly than this.
_BYTES_PER_MS = 8
_CLOSE_MS = 5_000
# What is read at a time; the longest topic there is must fit.
_BUFFER_BYTES = 131_072
# Records that the peer has not taken: no more messages are handed over above this.
_UNSENT_BYTES = 65_536


class PahoLink:
    """See base.py.

    QoS 0, 1 and 2 in both directions. Belongs to the thread that calls it, but for `wake`.
    """

    max_publish_bytes = 268_435_460  # MQTT's own limit (section 2.2.3)

    def __init__(self, settings: Settings, owner: Owner) -> None:
        self.waiting = Waiting()
        # Where `serve` has waited for nothing: for how long it would have.
        self.quiet_ms = 0
        self._settings = settings
        self._owner = owner
        self.up = False
        self._stream = Stream(settings, make_context(settings), self.wake)
        self._engine = Engine(settings, self._stream)
        self._reader = Reader(settings.max_packet_bytes, _BUFFER_BYTES)
        self._packet_ms_limit = _STALL_MS + settings.max_packet_bytes // _BYTES_PER_MS
        # Ids start anywhere, so that after a restart they are not those that a kept session may
        # still know.
        first_id = random_between(1, 65535)
        self.session = Session(settings.window, first_id, settings.keep_alive_s * 1000)
        self.heard = False
        self._opening: Iterator[int] | None = None
        self._leaving: Iterator[int] | None = None
        self._connection_number = 0
        disown_in_children(self)

    def disown(self) -> None:
        """Close the parent's sockets in a forked child, else the parent's end would not show."""
        self._stream.disown()
        self.waiting.close()

    def __del__(self) -> None:
        self.waiting.close()

    def wake(self) -> None:
        self.waiting.wake()

    def room(self) -> int:
        return self.session.room() if self._stream.unsent() < _UNSENT_BYTES else 0

    def open(self) -> None:
        self.close()
        now = now_ms()
        self._deadline_ms = now + int(self._settings.connect_timeout_s * 1000)
        self.session.begin(now)
        self._packet_ms = 0
        self._unsent_ms = 0
        self._connection_number += 1
        if self._stream.stage == "connack":
            self.session.doubtful = True
        self._opening = self._stream.opening()

    def serve(self, wait_ms: int) -> None:
        try:
            if self._leaving is not None:
                self._leave_further(self._leaving, wait_ms)
            elif self._opening is None:
                self._serve(wait_ms)
            else:
                self._open_further(self._opening, wait_ms)
        except Exception as error:
            stage = self._stream.stage
            self.close()
            ours = translate(error, stage, self._settings, self._probe)
            if ours is None:  # it is one of ours already, or a mistake in the program
                raise
            raise ours from error

    def _probe(self, settings: Settings) -> Finding | None:
        """Ask the broker once more what it has against this device, unless it has shown already
        that it is nothing.
        """
        stream = self._stream
        if stream.accepted:
            return Finding(ConnectionLost)
        return probe(settings, stream.context, stream.peer, self._owner.patience_ms())

    def send(self, delivery: Delivery, packet_id: int = 0, dup: int = 0) -> None:
        engine = self._engine
        if packet_id:
            engine.resend(packet_id, bool(dup))
            return
        if delivery.qos:
            engine.next_id = self.session.add(delivery)
        engine.publish(delivery.topic, delivery.payload, delivery.qos, delivery.retain)
        if not delivery.qos:
            self._owner.acknowledged(delivery)

    def ping(self) -> None:
        if self.session.ask(now_ms()):
            self._stream.write(_PINGREQ)

    def is_released(self, packet_id: int) -> bool:
        return self._engine.released(packet_id)

    def request(self, topic_filter: str, qos: int) -> None:
        self._engine.next_id = self.session.add(topic_filter, False)
        if qos < 0:
            self._engine.unsubscribe(topic_filter)
        else:
            self._engine.subscribe(topic_filter, qos)

    def acknowledge(self, message: Message) -> None:
        self._write(_PUBREC if message.qos == 2 else _PUBACK, message.packet_id)

    @property
    def leaving(self) -> bool:
        return self._leaving is not None

    def leave(self) -> None:
        if self.up:
            self.up = self.heard = False
            self._deadline_ms = now_ms() + _CLOSE_MS
            self._leaving = self._farewell()

    def _farewell(self) -> Iterator[int]:
        """Say DISCONNECT, in steps: yields what to wait for. Then throw away what comes until the
        peer closes.

        A socket that is closed with something unread is reset, and with that the peer may lose what
        was written last: acknowledgements, and DISCONNECT (RFC 1122, section 4.2.2.13).
        """
        self._engine.disconnect()
        self._engine.loop_write()
        while not self._stream.flush():
            yield select.POLLOUT
        scratch = memoryview(bytearray(_BUFFER_BYTES))
        while True:
            if not self._stream.readinto(scratch):
                yield select.POLLIN

    def _leave_further(self, farewell: Iterator[int], wait_ms: int) -> None:
        try:
            self.quiet_ms = left_ms = self._deadline_ms - now_ms()
            if left_ms > 0:
                self._wait(next(farewell), min(wait_ms, left_ms))
            else:
                self._drop(True)
        # As it should be; or the peer had gone already, and the broker sends the will. The last is
        # what a WebSocket may say.
        except (OSError, MalformedPacket):
            self._drop(True)

    def close(self) -> None:
        self._drop(self.up)

    def _drop(self, good: bool) -> None:
        self.up = self.heard = False
        self.quiet_ms = 0
        self._opening = self._leaving = None
        self._reader.reset()
        self.waiting.forget()
        self._stream.close(good)

    def _wait(self, events: int, timeout_ms: int) -> bool:
        """Wait for the network or `wake`; return True if the network is ready."""
        return self.waiting.wait(self._stream.fileno(), events, timeout_ms)

    # Opening

    def _open_further(self, opening: Iterator[int], wait_ms: int) -> None:
        self.quiet_ms = left_ms = self._deadline_ms - now_ms()
        if left_ms <= 0:
            raise OSError(errno.ETIMEDOUT, "connect_timeout_s is over")
        events = next(opening, None)
        if events is not None:
            self._wait(events, min(wait_ms, left_ms))
            return
        self._opening = None
        self.quiet_ms = 0
        # writes CONNECT, and prepares what is in flight for being sent again
        self._engine.reconnect()

    # Carrying

    def _serve(self, wait_ms: int) -> None:
        stream = self._stream
        now = now_ms()
        self.quiet_ms = left_ms = self._left_ms(now)
        if self._engine.want_write():
            self._engine.loop_write()
        if stream.unsent():
            self._flush(now)
        self.heard = self._wait(stream.events(), min(wait_ms, left_ms)) and self._read()
        # Judged only now, since what the peer has said may have waited for us.
        if left_ms <= 0 and (not self.heard or self._left_ms(now) <= 0):
            raise OSError(errno.ETIMEDOUT, "silence")

    def _flush(self, now: int) -> None:
        stream = self._stream
        self.session.sent_ms = now
        sent_bytes = stream.sent_bytes
        if stream.flush():
            self._unsent_ms = 0
        elif stream.sent_bytes > sent_bytes or not self._unsent_ms:
            self._unsent_ms = now

    def _read(self) -> bool:
        """Handle what is there; return True if there was anything."""
        stream, reader = self._stream, self._reader
        heard = False
        while True:
            space = reader.space()
            count = stream.readinto(space)
            if not count:
                return heard
            heard = True
            reader.fed(count)
            self.session.received_ms = now = now_ms()
            handled = self._handle(reader)
            if not reader.partial():
                self._packet_ms = 0
            elif handled or not self._packet_ms:
                self._packet_ms = now
            if count < len(space) and not stream.ended():
                return True

    def _left_ms(self, now: int) -> int:
        """Return how long nothing needs to be done; 0 or less when a deadline has passed."""
        if not self.up:
            left_ms = self._deadline_ms - now
        elif (self._packet_ms and now - self._packet_ms > self._packet_ms_limit) or (
            self._unsent_ms and now - self._unsent_ms > _STALL_MS
        ):
            left_ms = 0
        else:
            left_ms = self.session.due(now)
            if left_ms == 0:
                self._stream.write(_PINGREQ)
                left_ms = 1
        return left_ms

    def _handle(self, reader: Reader) -> bool:
        """Handle the packets that are whole, paho the answers to what it sent; return True if there
        was any.
        """
        answers = bytearray()
        handled = False
        while True:
            kind = reader.next()
            if not kind:
                break
            handled = True
            data, at = reader.data, reader.at
            if not self.up:
                if kind != _CONNACK:
                    raise MalformedPacket("the broker sent something before CONNACK", kind)
                self._connected(data[at], data[at + 1])
            elif kind & 0xF0 == 0x30:
                self._received(reader, kind)
            elif kind == _PINGRESP:
                self.session.pong()
            elif kind == _CONNACK:
                raise MalformedPacket("the broker sent a second CONNACK", kind)
            else:
                self._answered(reader, kind, answers)
        if answers:
            self._feed(bytes(answers))
        return handled

    def _connected(self, flags: int, return_code: int) -> None:
        self._stream.stage = "session"  # CONNACK was seen, whatever it says
        if return_code:
            raise refused(return_code, self._settings)
        session_present = self.session.accepted(flags, self._settings.clean_session)
        self.up = True
        in_flight = self.session.unacknowledged()
        self._engine.withhold(self.session)
        if not session_present:
            # To this broker all of it is new, what an earlier session had half-way through QoS 2
            # included.
            self._engine.forget()
        self._feed(bytes((_CONNACK, 2, session_present, 0)))
        if not session_present:
            for packet_id in in_flight:
                delivery = self.session.unanswered[packet_id]
                self._engine.next_id = packet_id
                self._engine.publish(
                    delivery.topic, delivery.payload, delivery.qos, delivery.retain
                )
        self._owner.connected(session_present)

    def _answered(self, reader: Reader, kind: int, answers: bytearray) -> None:
        """Note an acknowledgement; what was never sent, or not in this way, is acknowledged in
        error, and that does no harm.
        """
        data, at = reader.data, reader.at
        packet_id = data[at] << 8 | data[at + 1]
        what = self.session.find(packet_id)
        if kind == _PUBCOMP and answers:  # it may follow on its PUBREC
            self._feed(bytes(answers))
            answers.clear()
        if kind == _PUBREL:
            self._owner.make_inbox().released(packet_id)
            self._write(_PUBCOMP, packet_id)
        elif isinstance(what, Delivery):
            # A PUBACK for QoS 2, too: RabbitMQ answers so, and it is final.
            if kind == _PUBACK or (kind == _PUBCOMP and self._engine.released(packet_id)):
                self.session.remove(packet_id)
                self._owner.acknowledged(what)
            elif kind != _PUBREC or what.qos != 2:
                if kind == _PUBREC:
                    self._write(_PUBREL, packet_id)
                return
            answers += bytes((kind, 2, packet_id >> 8, packet_id & 255))
        elif kind == _PUBREC:  # for one that is not ours any more: the broker waits for it
            self._write(_PUBREL, packet_id)
        elif what is not None and kind >= _SUBACK:
            self.session.remove(packet_id)
            if kind == _SUBACK:
                self._owner.make_inbox().subscribed(what, data[at + 2] < 3)
            else:
                self._owner.make_inbox().unsubscribed(what)

    def _received(self, reader: Reader, kind: int) -> None:
        message = message_of(reader, kind, self._connection_number)
        self._owner.make_inbox().received(message, reader.oversized)

    def _feed(self, packets: bytes) -> None:
        """Have paho read packets."""
        self._engine.pipe.fill(packets)
        while self._engine.pipe.left():
            if self._engine.loop_read():
                raise MalformedPacket("paho-mqtt refused what the broker sent")

    def _write(self, kind: int, packet_id: int) -> None:
        self._stream.write(with_id(kind, packet_id))
