"""MQTT packets, put together and taken apart: for the tests' own brokers and clients.

Nothing of it is the library's, so that neither is tested by itself. Runs on both interpreters.
"""

CONNECT, CONNACK, PUBLISH, PUBACK = 0x10, 0x20, 0x30, 0x40
PUBREC, PUBREL, PUBCOMP = 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x82, 0x90, 0xA2, 0xB0
PINGREQ, PINGRESP, DISCONNECT = 0xC0, 0xD0, 0xE0


class Packet:
    """A packet as it came: its first byte, and what follows its length."""

    def __init__(self, first: int, body: bytes) -> None:
        self.first = first
        self.body = body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packet) and (self.first, self.body) == (other.first, other.body)

    def __repr__(self) -> str:
        return f"Packet({self.first:#x}, {self.body!r})"

    @property
    def kind(self) -> int:
        """The first byte, for a PUBLISH without its flags."""
        return PUBLISH if self.first & 0xF0 == PUBLISH else self.first

    @property
    def dup(self) -> bool:
        return bool(self.first & 8)

    @property
    def qos(self) -> int:
        """The QoS of a PUBLISH."""
        return self.first >> 1 & 3

    @property
    def topic(self) -> str:
        """The topic of a PUBLISH."""
        return self.body[2 : self._topic_end()].decode()

    @property
    def packet_id(self) -> int:
        """The packet id, wherever this kind has it; 0 if there is none."""
        at = 0
        if self.kind == PUBLISH:
            at = self._topic_end() if self.qos else len(self.body)
        return self.body[at] << 8 | self.body[at + 1] if at + 2 <= len(self.body) else 0

    @property
    def payload(self) -> bytes:
        """The payload of a PUBLISH."""
        return self.body[self._topic_end() + (2 if self.qos else 0) :]

    def _topic_end(self) -> int:
        return 2 + (self.body[0] << 8 | self.body[1])


def packet(first: int, body: bytes = b"") -> bytes:
    """Put a packet together."""
    head = bytearray((first,))
    size = len(body)
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + body


def field(content: "bytes | str") -> bytes:
    """Put a field together: its length in two bytes, and the content."""
    data = content.encode() if isinstance(content, str) else content
    return bytes((len(data) >> 8, len(data) & 255)) + data


def answer(first: int, packet_id: int, rest: bytes = b"") -> bytes:
    """Put a packet together that begins with a packet id."""
    return packet(first, bytes((packet_id >> 8, packet_id & 255)) + rest)


def publish(
    topic: "bytes | str",
    payload: bytes,
    qos: int = 0,
    packet_id: int = 7,
    *,
    dup: bool = False,
    retain: bool = False,
) -> bytes:
    """Put a PUBLISH together."""
    number = bytes((packet_id >> 8, packet_id & 255)) if qos else b""
    return packet(PUBLISH | dup << 3 | qos << 1 | retain, field(topic) + number + payload)


def take_packets(data: bytearray) -> "list[Packet]":
    """Take the whole packets out of `data`, and leave what is not whole yet."""
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
        packets.append(Packet(data[0], bytes(data[at : at + size])))
        data[:] = data[at + size :]
    return packets


# CONNACK of a broker that lets the device in, and has no session of its.
ACCEPTED = packet(CONNACK, b"\0\0")
