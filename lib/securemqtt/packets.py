"""Cutting what comes in into packets (MQTT 3.1.1, section 2.2). No I/O; bounded memory; nothing
allocated per byte.

Here is what a device needs that only sends; packets_more.py is loaded with the first packet that it
does not get, and then kept.
"""

from ._compat import const, once
from .failure import failure

# The answers to a window of 20 are 80 bytes; a device that receives more has a larger one after
# that (packets_more.py).
_BUFFER_BYTES = const(128)

# First byte, and size, of what comes to every device: CONNACK, PUBACK, PINGRESP.
_USUAL = (0x2002, 0x4002, 0xD000)


class Reader:
    """Takes bytes in whatever pieces they come and gives whole packets.

    The caller reads into `space()`, reports how much with `fed(n)`, then calls `next()` until it
    gives 0. A packet's body is `data[at : at + size]`, valid until the next call. A PUBLISH above
    `max_bytes` is not stored: `oversized` is then its size, and the body holds its beginning only,
    which names the topic and the packet id; that much may be as long as `max_bytes` or the buffer.

    What is not whole lies in `data` from `start` to `end`; that is `view`, or a buffer that one
    packet has to itself. Where `start` is beyond `end`, what comes up to there belongs to an
    oversized packet, and is thrown away.
    """

    @once
    def __init__(self, max_bytes: int, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self.max_bytes = max_bytes
        self.at = 0
        self.size = 0
        self.oversized = 0
        self.view = memoryview(bytearray(buffer_bytes))
        self.reset()

    def reset(self) -> None:
        """Forget what came from a connection that is gone."""
        self.data = self.view
        self.start = 0
        self.end = 0

    def space(self) -> memoryview:
        """Return where the next bytes are to be read into; never empty."""
        data = self.data
        if self.start:
            # Only the beginning of one packet is ever left over, so this moves less than a buffer,
            # once per read.
            rest = max(self.end - self.start, 0)
            if rest:
                data[:rest] = data[self.start : self.end]
            self.start += rest - self.end
            self.end = rest
        return data[self.end :] if self.end else data

    def fed(self, count: int) -> None:
        """Note that `count` bytes were read into `space()`."""
        self.end += count

    def partial(self) -> bool:
        """Return True if a packet has begun that is not whole yet."""
        return self.start != self.end

    def next(self) -> int:
        """Return the first byte of the next whole packet, 0 if there is none yet.

        Raises MalformedPacket.
        """
        at = self.start
        end = self.end
        if at >= end:
            self.data = self.view  # lets a large packet go that was given before
            return 0
        data = self.data
        kind = data[at]
        size = shift = 0
        while True:
            at += 1
            if at >= end:
                return 0
            size |= (data[at] & 127) << shift
            if data[at] < 128:
                break
            shift += 7
            if shift > 21:
                raise failure(
                    "MalformedPacket", "a packet's length takes more than four bytes", kind
                )
        at += 1
        self.at = at
        self.size = size
        self.oversized = 0
        if kind << 8 | size not in _USUAL:
            from .packets_more import whole

            return whole(self, kind)
        if at + size > end:
            return 0
        self.start = at + size
        return kind
