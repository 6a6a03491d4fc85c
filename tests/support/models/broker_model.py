"""What a broker does and knows, and what must be right about each packet that a device writes: the
model behind support/models/history.py.
"""

from support.models.wire import Wire
from support.packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Packet,
    answer,
    packet,
    publish,
    take_packets,
)

WINDOW = 4
TOPIC = "a"
STATE_TOPIC = "s"  # of messages of which only the newest counts


def number_in(message: Packet) -> int:
    """Return the number with which a message's payload begins."""
    return int(message.payload.split(b" ")[0])


class Device:
    """What is in flight from the device's side, over all its connections."""

    def __init__(self) -> None:
        self.in_use = {}  # packet id -> number of the message, -1 for a request
        # Whether its messages are sent in the order of their numbers.
        self.ordered = True
        self.last_id = 0
        self.released = set()  # packet ids for which the device has read PUBREC
        # an attempt was made since the last CONNACK: the session that is present need not be ours
        self.doubtful = False
        self.ever_doubtful = False
        self.clean_session = False  # whether it asks for one

    def in_flight(self) -> "list[int]":
        """Return the numbers of the messages whose packet ids are in use."""
        return [number for number in self.in_use.values() if number >= 0]


class Tap:
    """Listens at the device's end of one connection: what it writes must be right the moment it is
    written.
    """

    def __init__(self, device: Device, wire: Wire, clock: object) -> None:
        self._device = device
        self._wire = wire
        self._now_ms = clock
        self._written = bytearray()
        self._connect_seen = False
        self._last_number = -1
        self._again = set()  # packet ids in flight that this connection has not carried yet
        self._session_present = False
        self._doubtful = device.doubtful
        self._new_seen = False
        # (end of each packet in the bytes that come down, its first byte, packet id or session
        # present)
        self._answers = []
        self._sent_bytes = 0
        # Whether messages must go out in their order: not where one is passed over, or parked.
        self.ordered = True
        self.accepted_ms = None  # when the device read CONNACK
        self.partial_ms = None  # since when a packet is half-way in
        self.pings = 0  # written since the device last heard anything

    def written(self, data: bytes) -> None:
        """The device has written."""
        self._written += data
        for written in take_packets(self._written):
            kind, packet_id = written.kind, written.packet_id
            if not self._connect_seen:
                assert kind == CONNECT, "the first packet is no CONNECT"
                clean = written.body[7] & 2
                assert clean == self._device.clean_session << 1, "the flag clean_session"
                self._connect_seen = True
                continue
            assert self.accepted_ms is not None, "written before CONNACK"
            if kind == PUBLISH:
                self._published(written)
            elif kind in (SUBSCRIBE, UNSUBSCRIBE):
                assert packet_id and packet_id not in self._device.in_use, (
                    f"packet id {packet_id} is in use"
                )
                self._device.in_use[packet_id] = -1
                self._device.last_id = packet_id
            elif kind == PUBREL:
                assert packet_id in self._device.released or packet_id not in self._device.in_use, (
                    f"PUBREL of {packet_id} without PUBREC"
                )
                self._again.discard(packet_id)
            elif kind == PINGREQ:
                # else what was heard may pass for its answer
                if self._wire.heard_ms != self._now_ms():
                    self.pings += 1
                # One when it is due, and one by a device that did not listen for long.
                assert self.pings < 3 or self._wire.was_stuck, (
                    "a third ping before anything was heard"
                )
            else:
                assert kind in (PUBACK, PUBREC, PUBCOMP, DISCONNECT), hex(kind)
                self._wire.leaving = kind == DISCONNECT

    def _published(self, message: Packet) -> None:
        if message.topic not in (TOPIC, STATE_TOPIC):  # its own status
            return
        number, packet_id, in_use = number_in(message), message.packet_id, self._device.in_use
        ordered = self.ordered and self._device.ordered
        assert number > self._last_number or not ordered, f"{number} after {self._last_number}"
        self._last_number = number
        if not message.qos:
            return
        again = packet_id in self._again
        if again:
            assert in_use[packet_id] == number, (
                f"{number} under the packet id of {in_use[packet_id]}"
            )
            assert packet_id not in self._device.released, f"{number} again after PUBREC"
            self._again.discard(packet_id)
        else:
            assert not (self._again and self.ordered), f"{number} before what was in flight"
            assert packet_id and packet_id not in in_use, f"packet id {packet_id} is in use"
            assert number not in in_use.values(), f"{number} is in flight under another packet id"
            in_use[packet_id] = number
            self._device.last_id = packet_id
            # What the device sent and the network never took is in flight for the device alone.
            again = message.dup and not (self._new_seen and self.ordered)
            self._new_seen = not again
        if not (again and self._session_present and self._doubtful):
            assert message.dup == (again and self._session_present), (
                f"DUP is {message.dup} for {number}"
            )
        # What is held back has its id still.
        assert len(self._device.in_flight()) <= WINDOW or not self.ordered, "the window is overrun"

    def sent(self, data: bytes, mark: int) -> None:
        """The broker has sent one packet; `mark` is the packet id that it is about, of CONNACK the
        session present, -1 for none.
        """
        self._sent_bytes += len(data)
        self._answers.append((self._sent_bytes, data[0], mark))

    def read(self) -> None:
        """The device has read."""
        self.pings = 0
        while self._answers and self._answers[0][0] <= self._wire.read_bytes:
            end, first, mark = self._answers.pop(0)
            self.partial_ms = None
            if first == CONNACK:
                self._accepted(bool(mark))
            elif first == PUBREC and mark in self._device.in_use:
                self._device.released.add(mark)
            elif first in (PUBACK, PUBCOMP, SUBACK, UNSUBACK) and mark >= 0:
                self._device.in_use.pop(mark, None)
                self._device.released.discard(mark)
            if end == self._wire.read_bytes:
                return
        if self.partial_ms is None:
            self.partial_ms = self._now_ms()

    def _accepted(self, session_present: bool) -> None:
        device = self._device
        self.accepted_ms = self._now_ms()
        self._session_present = session_present
        device.doubtful = False
        for packet_id in [packet_id for packet_id in device.in_use if device.in_use[packet_id] < 0]:
            del device.in_use[packet_id]  # requests end with their connection
        if self._doubtful or not session_present:
            device.released = set()  # all of it is new to the broker, or may be
        self._again = set(device.in_use)


class Broker:
    """What the broker knows: its session with the device, what reached it, and what it has not
    answered.
    """

    def __init__(self, send: object) -> None:
        self._send = send
        self._input = bytearray()
        self.connected = False
        self.session = False
        self.sessions = 0
        self.received = []  # numbers in the order they came, each as often as it came
        self.filters = set()
        self.stored = set()  # packet ids of QoS 2 messages that the device has not released
        self.waiting = []  # (answer, packet id)
        # packet id -> [payload, qos, whether PUBREC has come], of messages that the device has not
        # acknowledged
        self.outgoing = {}
        self.acknowledged = 0

    def cut(self) -> None:
        """The connection is gone."""
        self._input = bytearray()
        self.connected = False
        self.waiting = []

    def take(self, data: bytes) -> None:
        """Bytes of the device have arrived."""
        self._input += data
        for taken in take_packets(self._input):
            kind, packet_id = taken.kind, taken.packet_id
            if kind == CONNECT:
                self._accept()
            elif kind == PUBLISH:
                self._published(taken)
            elif kind in (PUBACK, PUBREC, PUBCOMP):
                self._confirmed(kind, packet_id)
            elif kind == PUBREL:
                self.stored.discard(packet_id)
                self.waiting.append((answer(PUBCOMP, packet_id), packet_id))
            elif kind == SUBSCRIBE:
                self.filters.add(taken.body[4:-1].decode())
                self.waiting.append((answer(SUBACK, packet_id, b"\1"), packet_id))
            elif kind == UNSUBSCRIBE:
                self.filters.discard(taken.body[4:].decode())
                self.waiting.append((answer(UNSUBACK, packet_id), packet_id))
            elif kind == PINGREQ:
                self.waiting.append((packet(PINGRESP), -1))

    def publish(self, qos: int, text: str) -> None:
        """Send the device a message; of QoS 1 and 2, again on each connection until it is
        acknowledged.
        """
        packet_id = min(packet_id for packet_id in range(1, 100) if packet_id not in self.outgoing)
        if qos:
            self.outgoing[packet_id] = [text.encode(), qos, False]
        self._send(publish("c/x", text.encode(), qos, packet_id), -1)

    def _accept(self) -> None:
        present = self.session
        if not present:
            self.filters, self.outgoing, self.stored = set(), {}, set()
            self.sessions += 1
        self.session = self.connected = True
        self._send(packet(CONNACK, bytes((present, 0))), int(present))
        for packet_id in sorted(self.outgoing):
            payload, qos, received = self.outgoing[packet_id]
            if received:
                self._send(answer(PUBREL, packet_id), -1)
            else:
                self._send(publish("c/x", payload, qos, packet_id, dup=True), -1)

    def _published(self, message: Packet) -> None:
        packet_id = message.packet_id
        if message.topic in (TOPIC, STATE_TOPIC) and not (
            message.qos == 2 and packet_id in self.stored
        ):
            self.received.append(number_in(message))
        if message.qos == 2:
            self.stored.add(packet_id)
        if message.qos:
            self.waiting.append(
                (answer(PUBREC if message.qos == 2 else PUBACK, packet_id), packet_id)
            )

    def _confirmed(self, kind: int, packet_id: int) -> None:
        entry = self.outgoing.get(packet_id)
        if entry is None:
            return
        if kind == PUBREC:
            self.acknowledged += not entry[2]
            entry[2] = True
            self._send(answer(PUBREL, packet_id), -1)
        elif kind == PUBCOMP or entry[1] == 1:
            self.acknowledged += kind == PUBACK
            del self.outgoing[packet_id]
