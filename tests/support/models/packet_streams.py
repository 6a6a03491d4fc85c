"""Streams of packets for the packet reader, good and bad, and what must come of them.

Runs on both interpreters.
"""

from securemqtt.errors import MalformedPacket
from securemqtt.protocol.session import Reader
from support.interpreters.either import Random
from support.packets import packet, publish

# First bytes of what a broker may send, with the size of the body (MQTT 3.1.1, table 2.1 and
# sections 3.2 to 3.13).
SIZES = {0x20: 2, 0x40: 2, 0x50: 2, 0x62: 2, 0x70: 2, 0x90: 3, 0xB0: 2, 0xD0: 0}
LARGEST_SUBACK = 64
GROWN_BUFFER_BYTES = 512


def random_packet(random: Random, largest: int) -> bytes:
    """Return a packet that a broker may send, a PUBLISH of up to `largest` bytes more often than
    not.
    """
    if random.chance(40):
        kind = random.pick(sorted(SIZES))
        return packet(kind, random.data(SIZES[kind]))
    topic = b"t" * random.between(1, 12)
    size = random.below(random.pick((4, 40, largest)))
    return publish(topic, bytes((random.below(256),)) * size, random.below(3))


def random_stream(random: Random, largest: int) -> bytes:
    """Return a stream of packets: whole, cut off, changed in places, or nothing but noise."""
    if random.chance(10):
        return random.data(random.below(300))
    stream = bytearray(b"".join([random_packet(random, largest) for _ in range(random.below(12))]))
    if stream and random.chance(70):
        for _ in range(random.between(1, 3)):
            stream[random.below(len(stream))] = random.below(256)
    if random.chance(30):
        return bytes(stream[: random.below(len(stream) + 1)]) + random.data(random.below(9))
    return bytes(stream)


def random_cuts(random: Random) -> object:
    """Return a function that says how many bytes come next, of `limit` at most."""
    largest = random.pick((1, 3, 50, 100000))
    return lambda limit: min(limit, random.between(1, largest))


def expected(
    stream: bytes, max_bytes: int, buffer_bytes: int
) -> "tuple[list[tuple[int, bytes, int]], str]":
    """Say by the letter of the specification what `read` is to give for a whole stream; packets
    come as (kind, body, oversized).

    Of a packet above `max_bytes` the body is the topic and the packet id.
    """
    packets = []
    start = 0
    while len(stream) - start >= 2:
        kind = stream[start]
        size = shift = 0
        at = start + 1
        while True:
            if at == len(stream):
                return packets, "unfinished"
            digit = stream[at]
            at += 1
            size |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
            if shift == 28:
                return packets, "malformed"
        if kind & 0xF0 == 0x30:
            good = kind & 6 != 6 and size >= 3
        elif kind == 0x90:
            good = 3 <= size <= LARGEST_SUBACK
        else:
            good = SIZES.get(kind) == size
        if not good:
            return packets, "malformed"
        oversized = size > max_bytes and kind & 0xF0 == 0x30
        if oversized:
            if len(stream) < at + 2:
                return packets, "unfinished"
            head = 2 + (stream[at] << 8 | stream[at + 1]) + (2 if kind & 6 else 0)
            if head > size or head > max(max_bytes, buffer_bytes, GROWN_BUFFER_BYTES):
                return packets, "malformed"
            if len(stream) < at + head:
                return packets, "unfinished"
            packets.append((kind, stream[at : at + head], size))
        elif len(stream) < at + size:
            return packets, "unfinished"
        else:
            packets.append((kind, stream[at : at + size], 0))
        start = at + size
    return packets, "whole" if start == len(stream) else "unfinished"


def read(reader: Reader, stream: bytes, cut: object) -> "tuple[list[tuple[int, bytes, int]], str]":
    """Have `reader` read a stream in pieces of `cut(limit)` bytes; return what came, as `expected`
    does. No other exception leaves it.
    """
    packets = []
    at = 0
    try:
        while at < len(stream):
            space = reader.space()
            assert len(space) > 0
            count = min(cut(len(stream) - at), len(space))
            space[:count] = stream[at : at + count]
            at += count
            reader.fed(count)
            while True:
                kind = reader.next()
                if not kind:
                    break
                body = bytes(reader.data[reader.at : reader.at + reader.size])
                assert reader.size == len(body)
                if reader.oversized:
                    topic_bytes = body[0] << 8 | body[1]
                    body = body[: 2 + topic_bytes + (2 if kind & 6 else 0)]
                packets.append((kind, body, reader.oversized))
    except MalformedPacket:
        return packets, "malformed"
    return packets, "unfinished" if reader.partial() else "whole"


def check(reader: Reader, stream: bytes, cut: object, max_bytes: int, buffer_bytes: int) -> None:
    """Check that a stream gives what it must, however it is cut, and that the reader is as good as
    new after `reset`.
    """
    reader.reset()
    wanted, wanted_end = expected(stream, max_bytes, buffer_bytes)
    packets, end = read(reader, stream, cut)
    assert packets == wanted, (stream, packets, wanted)
    assert end == wanted_end, (stream, end, wanted_end)
