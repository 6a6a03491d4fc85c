"""Packets that come to a device which does more than send with QoS 0 and 1: see session.py.

Larger ones need a larger buffer, PUBLISH is taken apart.
"""

from ..messages import Message
from ..platform import const, is_plain

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Protocol

    from ..errors import MalformedPacket

    class Reader(Protocol):
        """session.Reader, as far as it is seen from here; it imports this file."""

        max_bytes: int
        at: int
        size: int
        oversized: int
        start: int
        end: int
        data: memoryview
        view: memoryview


# A buffer of so much stays, once a packet needed more than the one that a device begins with.
_LARGER_BUFFER_BYTES = const(512)
_LARGEST_SUBACK = const(64)


def whole(reader: "Reader", kind: int) -> int:
    """Return `kind` if the packet whose head `next` has found, at `at` and of `size`, is whole; 0
    if it is not. Raise MalformedPacket.
    """
    size = reader.size
    if kind & 0xF0 == 0x30:
        if kind & 6 == 6 or size < 3:
            raise _malformed("a PUBLISH has QoS 3 or no topic", kind)
        if size > reader.max_bytes:
            return _head_of_oversized(reader, kind)
    elif (
        not 3 <= size <= _LARGEST_SUBACK
        if kind == 0x90
        else size != 2 or kind not in (0x50, 0x62, 0x70, 0xB0)
    ):
        raise _malformed("a packet of a type or size that no broker may send", kind)
    end = reader.at + size
    if end <= reader.end:
        reader.start = end
        return kind
    _make_room(reader, end)
    return 0


def _head_of_oversized(reader: "Reader", kind: int) -> int:
    """Return an oversized PUBLISH as soon as its topic and packet id are there; what follows is
    thrown away as it comes.
    """
    at = reader.at
    size = reader.size
    have = min(reader.end - at, size)
    need = 4 if kind & 6 else 2
    if have >= 2:
        need += reader.data[at] << 8 | reader.data[at + 1]
    if need > size or need > max(reader.max_bytes, len(reader.data), _LARGER_BUFFER_BYTES):
        raise _malformed("a topic longer than its packet, or than this device takes", need)
    if have < need:
        _make_room(reader, at + need)
        return 0
    reader.start = at + size
    reader.size = have
    reader.oversized = size
    return kind


def _make_room(reader: "Reader", end: int) -> None:
    """Have the packet that is to reach to `end` in a buffer that it fits into: one that stays, if
    that is enough, or one of its own.
    """
    start = reader.start
    have = reader.end - start
    size = max(end - start, _LARGER_BUFFER_BYTES)
    if size > len(reader.data):
        reader.data, smaller = memoryview(bytearray(size)), reader.data
        reader.data[:have] = smaller[start : reader.end]
        if size == _LARGER_BUFFER_BYTES:
            reader.view = reader.data
        reader.start = 0
        reader.end = have


def message_of(reader: "Reader", kind: int, connection_number: int) -> "Message":
    """Take the PUBLISH that `reader` has given apart; an oversized one has no payload.

    Raise MalformedPacket.
    """
    data = reader.data
    at = reader.at
    end = at + reader.size
    topic_end = at + 2 + (data[at] << 8 | data[at + 1])
    qos = kind >> 1 & 3
    body = topic_end + 2 if qos else topic_end
    if body > end:
        raise _malformed("a PUBLISH is shorter than its topic", kind)
    name = bytes(data[at + 2 : topic_end])
    try:
        topic = str(name, "utf-8")
    except ValueError:
        raise _malformed("a topic is not UTF-8", kind)
    if not name or b"+" in name or b"#" in name or not (is_plain(topic) or _may_be(name)):
        raise _malformed("a topic that MQTT does not allow", kind)
    packet_id = data[topic_end] << 8 | data[topic_end + 1] if qos else 0
    if qos and not packet_id:
        raise _malformed("a packet id of 0", kind)
    payload = b"" if reader.oversized else bytes(data[body:end])
    return Message(
        topic, payload, qos, bool(kind & 1), bool(kind & 8), packet_id, connection_number
    )


def _may_be(name: bytes) -> bool:
    """Return True if a topic holds no NUL, and is UTF-8 in its shortest form, without halves of
    surrogate pairs ([MQTT-1.5.3-1], [-2]): MicroPython takes those.
    """
    for at, code in enumerate(name):
        if code < 0x80:
            wrong = not code
        elif code < 0xC0:
            wrong = False
        elif code in (0xE0, 0xED, 0xF0, 0xF4):
            second = name[at + 1]
            least = {0xE0: 0xA0, 0xF0: 0x90}.get(code, 0x80)
            most = {0xED: 0x9F, 0xF4: 0x8F}.get(code, 0xBF)
            wrong = not least <= second <= most
        else:
            wrong = code < 0xC2 or code > 0xF4
        if wrong:
            return False
    return True


def _malformed(what: str, code: object) -> "MalformedPacket":
    from ..errors import MalformedPacket

    return MalformedPacket(what, code)
