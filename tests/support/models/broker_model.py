"""What a broker does and knows, and what must be right about each packet that a device writes: the
model behind support/models/history.py.
"""

from support.models.packet_streams import packet
from support.models.wire import Wire

WINDOW = 4
TOPIC = "a"
STATE_TOPIC = "s"  # of messages of which only the newest counts
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70


def packets_of(data: bytearray) -> "list[tuple[int, bytes]]":
    """Take the whole packets out of `data`: first byte and body."""
    packets = []
    while len(data) >= 2:
        size = shift = 0
        at = 1
        while True:
            if at == len(data):
                return packets
            size |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        if len(data) < at + size:
            return packets
        packets.append((data[0], bytes(data[at : at + size])))
        data[:] = data[at + size :]
    return packets


def answer(first: int, packet_id: int, rest: bytes = b"") -> bytes:
    """Put a packet together that begins with a packet id."""
    return bytes((first, 2 + len(rest), packet_id >> 8, packet_id & 255)) + rest


class Publish:
    """A PUBLISH as it is on the wire; the payload begins with the message's number."""

    def __init__(self, first: int, body: bytes) -> None:
        size = body[0] << 8 | body[1]
        self.qos = first >> 1 & 3
        self.dup = bool(first & 8)
        self.topic = body[2 : 2 + size].decode()
        rest = body[2 + size :]
        self.packet_id = rest[0] << 8 | rest[1] if self.qos else 0
        self.payload = rest[2:] if self.qos else rest

    @property
    def number(self) -> int:
        return int(self.payload.split(b" ")[0])


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
        for first, body in packets_of(self._written):
            if not self._connect_seen:
                assert first == 0x10, "the first packet is no CONNECT"
                assert body[7] & 2 == self._device.clean_session << 1, "the flag clean_session"
                self._connect_seen = True
                continue
            assert self.accepted_ms is not None, "written before CONNACK"
            packet_id = body[0] << 8 | body[1] if len(body) > 1 else 0
            if first & 0xF0 == 0x30:
                self._published(Publish(first, body))
            elif first in (0x82, 0xA2):
                assert packet_id and packet_id not in self._device.in_use, (
                    f"packet id {packet_id} is in use"
                )
                self._device.in_use[packet_id] = -1
                self._device.last_id = packet_id
            elif first == PUBREL:
                assert packet_id in self._device.released or packet_id not in self._device.in_use, (
                    f"PUBREL of {packet_id} without PUBREC"
                )
                self._again.discard(packet_id)
            elif first == 0xC0:
                # else what was heard may pass for its answer
                if self._wire.heard_ms != self._now_ms():
                    self.pings += 1
                # One when it is due, and one by a device that did not listen for long.
                assert self.pings < 3 or self._wire.was_stuck, (
                    "a third ping before anything was heard"
                )
            else:
                assert first in (PUBACK, PUBREC, PUBCOMP, 0xE0), hex(first)
                self._wire.leaving = first == 0xE0

    def _published(self, message: Publish) -> None:
        if message.topic not in (TOPIC, STATE_TOPIC):  # its own status
            return
        number, packet_id, in_use = message.number, message.packet_id, self._device.in_use
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
            if first == 0x20:
                self._accepted(bool(mark))
            elif first == PUBREC and mark in self._device.in_use:
                self._device.released.add(mark)
            elif first in (PUBACK, PUBCOMP, 0x90, 0xB0) and mark >= 0:
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
        for first, body in packets_of(self._input):
            kind = first & 0xF0
            packet_id = body[0] << 8 | body[1] if len(body) > 1 else 0
            if kind == 0x10:
                self._accept()
            elif kind == 0x30:
                self._published(Publish(first, body))
            elif kind in (0x40, 0x50, 0x70):
                self._confirmed(kind, packet_id)
            elif kind == 0x60:
                self.stored.discard(packet_id)
                self.waiting.append((answer(PUBCOMP, packet_id), packet_id))
            elif kind == 0x80:
                self.filters.add(body[4:-1].decode())
                self.waiting.append((answer(0x90, packet_id, b"\1"), packet_id))
            elif kind == 0xA0:
                self.filters.discard(body[4:].decode())
                self.waiting.append((answer(0xB0, packet_id), packet_id))
            elif kind == 0xC0:
                self.waiting.append((b"\xd0\0", -1))

    def publish(self, qos: int, text: str) -> None:
        """Send the device a message; of QoS 1 and 2, again on each connection until it is
        acknowledged.
        """
        packet_id = min(packet_id for packet_id in range(1, 100) if packet_id not in self.outgoing)
        if qos:
            self.outgoing[packet_id] = [text.encode(), qos, False]
        self._publish(packet_id, text.encode(), qos, 0)

    def _publish(self, packet_id: int, payload: bytes, qos: int, dup: int) -> None:
        body = b"\0\3c/x" + (bytes((packet_id >> 8, packet_id & 255)) if qos else b"") + payload
        self._send(packet(0x30 | qos << 1 | dup << 3, body), -1)

    def _accept(self) -> None:
        present = self.session
        if not present:
            self.filters, self.outgoing, self.stored = set(), {}, set()
            self.sessions += 1
        self.session = self.connected = True
        self._send(bytes((0x20, 2, present, 0)), int(present))
        for packet_id in sorted(self.outgoing):
            payload, qos, received = self.outgoing[packet_id]
            if received:
                self._send(answer(PUBREL, packet_id), -1)
            else:
                self._publish(packet_id, payload, qos, 1)

    def _published(self, message: Publish) -> None:
        packet_id = message.packet_id
        if message.topic in (TOPIC, STATE_TOPIC) and not (
            message.qos == 2 and packet_id in self.stored
        ):
            self.received.append(message.number)
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
        if kind == 0x50:
            self.acknowledged += not entry[2]
            entry[2] = True
            self._send(answer(PUBREL, packet_id), -1)
        elif kind == 0x70 or entry[1] == 1:
            self.acknowledged += kind == 0x40
            del self.outgoing[packet_id]
