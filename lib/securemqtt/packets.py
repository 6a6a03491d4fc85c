"""Cutting what comes in into packets (MQTT 3.1.1, section 2.2). No I/O; bounded memory; nothing allocated per byte."""

from ._compat import const, once, rare
from .failure import failure

_BUFFER_BYTES = const(512)

# First byte of what a broker may send, and the size of its body where that is fixed. PUBLISH and SUBACK are told apart before.
_FIXED = (0x2002, 0x4002, 0x5002, 0x6202, 0x7002, 0xB002, 0xD000)


class Reader:
    """Takes bytes in whatever pieces they come and gives whole packets.

    The caller reads into `space()`, reports how much with `fed(n)`, then calls `next()` until it gives 0. A packet's body is
    `data[at : at + size]`, valid until the next call. A PUBLISH above `max_bytes` is not stored: `oversized` is then its size, and the body
    holds its beginning only, which names the topic and the packet id; that much must fit into `buffer_bytes`.
    """

    @once
    def __init__(self, max_bytes: int, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray(buffer_bytes)
        self._view = memoryview(self._buffer)
        self.reset()

    def reset(self) -> None:
        """Forget what came from a connection that is gone."""
        self._start = 0
        self._end = 0
        self._skip = 0
        self._large: "memoryview | None" = None
        self._large_end = 0
        self._large_kind = 0
        self.data = self._view
        self.at = 0
        self.size = 0
        self.oversized = 0

    def space(self) -> memoryview:
        """Give where the next bytes are to be read into; never empty."""
        if self._large is not None:
            return self._large[self._large_end :]
        if self._start:
            # Only the beginning of one packet is ever left over, so this moves less than a buffer, once per read.
            rest = self._end - self._start
            if rest:
                self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start = 0
            self._end = rest
        return self._view[self._end :] if self._end else self._view

    def fed(self, count: int) -> None:
        """Note that `count` bytes were read into `space()`."""
        if self._large is not None:
            self._large_end += count
        elif self._skip:
            self._drop(count)
        else:
            self._end += count

    def partial(self) -> bool:
        """Tell whether a packet has begun that is not whole yet."""
        return self._end > self._start or self._large is not None or self._skip > 0

    def next(self) -> int:
        """Give the first byte of the next whole packet, 0 if there is none yet. Raises MalformedPacket."""
        if self._large is not None:
            if self._large_end < len(self._large):
                return 0
            self.data, self.at, self.size = self._large, 0, len(self._large)
            self._large = None
            return self._large_kind
        self.data = self._view  # lets a large packet go that was given before
        self.oversized = 0
        buffer = self._buffer
        start = self._start
        have = self._end - start
        if have < 2:
            return 0
        kind = buffer[start]
        size = buffer[start + 1]
        at = start + 2
        if size > 127:
            size &= 127
            shift = 7
            while True:
                if at >= self._end:
                    return 0
                digit = buffer[at]
                at += 1
                size |= (digit & 127) << shift
                if digit < 128:
                    break
                shift += 7
                if shift > 21:
                    raise failure("MalformedPacket", "a packet's length takes more than four bytes", kind)
        if kind & 0xF0 == 0x30:
            if kind & 6 == 6 or size < 3:
                raise failure("MalformedPacket", "a PUBLISH has QoS 3 or no topic", kind)
            if size > self._max_bytes:
                return self._head_of_oversized(kind, at, size)
        elif not 3 <= size <= 64 if kind == 0x90 else size > 2 or kind << 8 | size not in _FIXED:
            raise failure("MalformedPacket", "a packet of a type or size that no broker may send", kind)
        if at + size <= self._end:
            self._start = at + size
            self.data, self.at, self.size = self._view, at, size
            return kind
        if at - start + size > len(buffer):
            have = self._end - at
            self._large = memoryview(bytearray(size))
            self._large[:have] = self._view[at : self._end]
            self._large_end = have
            self._large_kind = kind
            self._start = self._end = 0
        return 0

    @rare
    def _head_of_oversized(self, kind: int, at: int, size: int) -> int:
        """Give an oversized PUBLISH as soon as its topic and packet id are there; what follows is dropped as it comes."""
        have = min(self._end - at, size)
        need = 4 if kind & 6 else 2
        if have >= 2:
            need += self._buffer[at] << 8 | self._buffer[at + 1]
        if need > size or at - self._start + need > len(self._buffer):
            raise failure("MalformedPacket", "a topic longer than its packet, or than this device takes", need)
        if have < need:
            return 0
        self._skip = size - have
        self._start = at + have
        self.data, self.at, self.size = self._view, at, have
        self.oversized = size
        return kind

    def _drop(self, count: int) -> None:
        """Throw away what belongs to an oversized packet; keep what came behind it."""
        if count <= self._skip:
            self._skip -= count
            return
        self._start = self._skip
        self._end = count
        self._skip = 0
