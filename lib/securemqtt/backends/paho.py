"""The CPython backend: paho-mqtt keeps the session and writes the packets, this module moves the
bytes and sets the deadlines.

paho writes into a pipe of memory and is fed whole, checked packets from one, so no call into it
ever waits for the network. What it does well is left to it: CONNECT, PUBLISH and SUBSCRIBE as
bytes, and messages in flight, kept over reconnects and sent again in their order with DUP. What it
does otherwise than docs/ARCHITECTURE.md promises is done here; the list is there.
"""

from __future__ import annotations

import errno
import random
import select
import socket
from collections.abc import Iterator
from typing import Any

from .._compat import now_ms
from ..failure import failure, refused, translated
from ..messages import Message
from ..outbox import Delivery
from ..packets import Reader
from ..packets_more import message_of
from ..session import Session
from .contract import Owner
from .paho_engine import Engine
from .stream_openssl import Stream
from .tls_openssl import make_context

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
    """See contract.py.

    QoS 0, 1 and 2 in both directions. Belongs to the thread that calls it, but for `wake`.
    """

    def __init__(self, settings: dict[str, Any], owner: Owner) -> None:
        self._woken = False
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._wake_out, select.POLLIN)
        self._polled = (-1, 0)
        self._settings = settings
        self._owner = owner
        self.up = False
        self._stream = Stream(settings, make_context(settings), self.wake)
        self._engine = Engine(settings, self._stream)
        self._reader = Reader(settings["max_packet_bytes"], _BUFFER_BYTES)
        self._packet_ms_limit = _STALL_MS + settings["max_packet_bytes"] // _BYTES_PER_MS
        # Ids start anywhere, so that after a restart they are not those that a kept session may
        # still know.
        first_id = random.randint(1, 65535)  # noqa: S311  (no secret)
        self._session = Session(settings["window"], first_id, settings["keep_alive_s"] * 1000)
        # QoS 2 messages that came in, by packet id, so that none is handed over twice; None from
        # PUBREC to PUBREL.
        self._receiving: dict[int, Message | None] = {}
        self._opening: Iterator[int] | None = None
        self._epoch = 0
        self._doubtful = False

    def __del__(self) -> None:
        self._wake_out.close()
        self._wake_in.close()

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            try:
                self._wake_in.send(b"\0")
            # so many threads at once that the buffer is full: that wakes, too
            except BlockingIOError:
                return

    def room(self) -> int:
        return self._session.room() if self._stream.unsent() < _UNSENT_BYTES else 0

    def open(self) -> None:
        self._drop()
        now = now_ms()
        self._deadline_ms = now + int(self._settings["connect_timeout_s"] * 1000)
        self._session.sent_ms = self._session.received_ms = now
        self._packet_ms = 0
        self._unsent_ms = 0
        self._epoch += 1
        if self._stream.stage == "connack":
            self._doubtful = True
        self._opening = self._stream.opening()

    def serve(self, wait_ms: int) -> None:
        try:
            if self._opening is None:
                self._serve(wait_ms)
            else:
                self._open_further(self._opening, wait_ms)
        except Exception as error:
            stage = self._stream.stage
            self._drop()
            ours = translated(error, stage, self._settings)
            if ours is None:  # it is one of ours already, or a mistake in the program
                raise
            raise ours from error

    def send(self, delivery: Delivery) -> None:
        engine = self._engine
        if delivery.qos:
            engine.next_id = self._session.add(delivery)
        engine.publish(delivery.topic, delivery.payload, delivery.qos, delivery.retain)
        if not delivery.qos:
            self._owner.link_acknowledged(delivery)

    def request(self, topic_filter: str, qos: int) -> None:
        self._engine.next_id = self._session.add(topic_filter, False)
        if qos < 0:
            self._engine.unsubscribe(topic_filter)
        else:
            self._engine.subscribe(topic_filter, qos)

    def ack(self, message: Message) -> None:
        if message.qos == 2:
            # A second delivery of it, on a later connection, has not been handed over: so this
            # answers that one, too.
            if self._receiving.get(message.packet_id) is message:
                self._receiving[message.packet_id] = None
                if self.up:
                    self._write(_PUBREC, message.packet_id)
        elif self.up and message.epoch == self._epoch:
            self._write(_PUBACK, message.packet_id)

    def close(self, orderly: bool) -> None:
        if orderly and self.up:
            try:
                self._engine.disconnect()
                self._engine.loop_write()
                self._drain(now_ms() + _CLOSE_MS)
            except OSError:
                self.up = False  # it is gone already: the broker sends the will then
        self._drop()

    def _drain(self, deadline_ms: int) -> None:
        while not self._stream.flush() and now_ms() < deadline_ms:
            self._wait(select.POLLOUT, deadline_ms - now_ms())

    def _drop(self) -> None:
        good = self.up
        self.up = False
        self._opening = None
        self._reader.reset()
        if self._polled[0] >= 0:
            self._poll.unregister(self._polled[0])
            self._polled = (-1, 0)
        self._stream.close(good)

    def _wait(self, events: int, timeout_ms: int) -> bool:
        """Wait for the network or `wake`; return True if the network is ready."""
        stream = self._stream
        wanted = (stream.fileno(), events)
        if wanted != self._polled:
            if self._polled[0] >= 0:
                self._poll.unregister(self._polled[0])
            if wanted[0] >= 0:
                self._poll.register(*wanted)
            self._polled = wanted
        ready = False
        for fd, _ in self._poll.poll(max(timeout_ms, 0)):
            if fd == self._polled[0]:
                ready = True
            else:
                self._wake_out.recv(64)
                # Only now: whoever called `wake` before has put what he has where the next turn
                # looks for it.
                self._woken = False
        return ready

    # Opening

    def _open_further(self, opening: Iterator[int], wait_ms: int) -> None:
        left_ms = self._deadline_ms - now_ms()
        if left_ms <= 0:
            raise OSError(errno.ETIMEDOUT, "connect_timeout_s is over")
        events = next(opening, None)
        if events is not None:
            self._wait(events, min(wait_ms, left_ms))
            return
        self._opening = None
        # writes CONNECT, and prepares what is in flight for being sent again
        self._engine.reconnect()

    # Carrying

    def _serve(self, wait_ms: int) -> None:
        stream = self._stream
        now = now_ms()
        wait_ms = min(wait_ms, self._left_ms(now))
        if self._engine.want_write():
            self._engine.loop_write()
        if stream.unsent():
            self._flush(now)
        if self._wait(stream.events(), wait_ms):
            self._read()

    def _flush(self, now: int) -> None:
        stream = self._stream
        self._session.sent_ms = now
        sent_bytes = stream.sent_bytes
        if stream.flush():
            self._unsent_ms = 0
        elif stream.sent_bytes > sent_bytes or not self._unsent_ms:
            self._unsent_ms = now

    def _read(self) -> None:
        stream, reader = self._stream, self._reader
        while True:
            space = reader.space()
            count = stream.readinto(space)
            if not count:
                return
            reader.fed(count)
            self._session.received_ms = now = now_ms()
            handled = self._handle(reader)
            if not reader.partial():
                self._packet_ms = 0
            elif handled or not self._packet_ms:
                self._packet_ms = now
            if count < len(space) and not stream.ended():
                return

    def _left_ms(self, now: int) -> int:
        """Return how long nothing needs to be done, at least 0; OSError(ETIMEDOUT) when a deadline
        has passed.
        """
        if not self.up:
            left_ms = self._deadline_ms - now
        elif (self._packet_ms and now - self._packet_ms > self._packet_ms_limit) or (
            self._unsent_ms and now - self._unsent_ms > _STALL_MS
        ):
            left_ms = 0
        else:
            left_ms = self._session.due(now)
            if left_ms == 0:
                self._stream.write(_PINGREQ)
                left_ms = 1
        if left_ms <= 0:
            raise OSError(errno.ETIMEDOUT, "silence")
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
                    raise failure(
                        "MalformedPacket", "the broker sent something before CONNACK", kind
                    )
                self._connected(data[at] & 1, data[at + 1])
            elif kind & 0xF0 == 0x30:
                self._received(reader, kind)
            elif kind == _PUBREL:
                packet_id = data[at] << 8 | data[at + 1]
                self._receiving.pop(packet_id, None)
                self._write(_PUBCOMP, packet_id)
            elif kind == _CONNACK:
                raise failure("MalformedPacket", "the broker sent a second CONNACK", kind)
            elif kind != _PINGRESP:
                self._answered(reader, kind, answers)
        if answers:
            self._feed(bytes(answers))
        return handled

    def _connected(self, session_present: int, return_code: int) -> None:
        if return_code:
            raise refused(return_code, self._settings)
        self.up = True
        self._stream.stage = "session"
        # A broker that had lost our session may have made one for an attempt whose CONNACK we never
        # saw: then it is present, and empty.
        if self._doubtful:
            self._doubtful = False
            session_present = 0
        in_flight = self._session.unacknowledged()
        if not session_present:
            # To this broker all of it is new, what an earlier session had half-way through QoS 2
            # included.
            self._engine.forget()
            self._receiving.clear()
        self._feed(bytes((_CONNACK, 2, session_present, 0)))
        if not session_present:
            for packet_id in in_flight:
                delivery = self._session.unanswered[packet_id]
                self._engine.next_id = packet_id
                self._engine.publish(
                    delivery.topic, delivery.payload, delivery.qos, delivery.retain
                )
        self._owner.link_event("up", bool(session_present))

    def _answered(self, reader: Reader, kind: int, answers: bytearray) -> None:
        """Note an acknowledgement; what was never sent, or not in this way, is acknowledged in
        error, and that does no harm.
        """
        data, at = reader.data, reader.at
        packet_id = data[at] << 8 | data[at + 1]
        what = self._session.unanswered.get(packet_id)
        if isinstance(what, Delivery):
            if kind == (_PUBACK if what.qos == 1 else _PUBCOMP):
                self._session.remove(packet_id)
                self._owner.link_acknowledged(what)
            elif kind != _PUBREC or what.qos != 2:
                return
            answers += bytes((kind, 2, packet_id >> 8, packet_id & 255))
        elif what is not None and kind >= _SUBACK:
            self._session.remove(packet_id)
            if kind == _SUBACK:
                self._owner.link_event("subscribed", what, data[at + 2] < 3)
            else:
                self._owner.link_event("unsubscribed", what)

    def _received(self, reader: Reader, kind: int) -> None:
        message = message_of(reader, kind, self._epoch)
        packet_id = message.packet_id
        if reader.oversized:
            self._owner.link_event("oversized", message.topic, reader.oversized)
            if message.qos == 2:
                self._receiving[packet_id] = message
            if message.qos:
                self.ack(message)
        elif message.qos < 2:
            self._owner.link_message(message)
        elif packet_id not in self._receiving:
            if self._owner.link_message(message):
                self._receiving[packet_id] = message
        elif self._receiving[packet_id] is None:
            self._write(_PUBREC, packet_id)

    def _feed(self, packets: bytes) -> None:
        """Have paho read packets."""
        self._engine.pipe.fill(packets)
        while self._engine.pipe.left():
            if self._engine.loop_read():
                raise failure("MalformedPacket", "paho-mqtt refused what the broker sent")

    def _write(self, kind: int, packet_id: int) -> None:
        self._stream.write(bytes((kind, 2, packet_id >> 8, packet_id & 255)))
