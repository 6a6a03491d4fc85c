"""MQTT inside a WebSocket (RFC 6455; MQTT 3.1.1, section 6): what to send, and what came in. No
I/O.

paho-mqtt has a wrapper for this. It is not used: it loses a packet that a full socket took half of,
answers a ping unmasked, for which a server must close, keeps whole frames of any size in memory,
and blocks until the upgrade is done.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct

from ..errors import MalformedPacket, ProtocolRefused
from ..log import printable
from ..settings import Settings

# Fixed by RFC 6455, section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# An answer to the upgrade that is longer is none.
_HEADER_BYTES = 16384
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0, 2, 8, 9, 10
_CONTROL_BYTES = 125


class WebSocket:
    """The codec of one connection: `request` and `answered` first, then `frame` for what goes out,
    `feed` for what came.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path: str = settings.ws_path
        self.payload = bytearray()
        """What frames carried and nobody has taken yet."""
        self.reply = bytearray()
        """What is owed to the peer: pongs, as frames."""

    def request(self) -> bytes:
        """Begin: give the request for the upgrade."""
        self._key = base64.b64encode(os.urandom(16))
        self._buffer = bytearray()
        self._left = 0
        self.payload = bytearray()
        self.reply = bytearray()
        lines = (
            f"GET {self._path} HTTP/1.1",
            f"Host: {self._settings.address}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self._key.decode()}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def answered(self, data: bytes) -> bool:
        """Take a part of the answer to the request; return True if it is whole.

        Raise ProtocolRefused if it is a no.
        """
        self._buffer += data
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            if len(head) > _HEADER_BYTES:
                what = f"{self._settings.address} does not answer as a WebSocket server does"
                raise ProtocolRefused(what)
            return False
        status, *lines = head.split(b"\r\n")
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        expected = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        if status.split(b" ")[1:2] != [b"101"] or fields.get(b"sec-websocket-accept") != expected:
            what = f"{self._settings.address} has no MQTT over WebSockets at {self._path}"
            raise ProtocolRefused(what, printable(status[:80].decode("ascii", "replace")))
        self._buffer = bytearray()
        self.feed(rest)
        return True

    def frame(self, data: bytes | bytearray, opcode: int = _BINARY) -> bytes:
        """Return one frame that carries `data`, masked as a client's must be."""
        size = len(data)
        if size <= _CONTROL_BYTES:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        key = os.urandom(4)
        # The mask repeats every four bytes: one exclusive-or over everything as a number does it at
        # once.
        mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
        return head + key + (int.from_bytes(data, "big") ^ mask).to_bytes(size, "big")

    def feed(self, data: bytes | memoryview) -> None:
        """Take what came in: what frames carry is appended to `payload`, as far as it is there, and
        pongs to `reply`.

        Raise MalformedPacket for what no server may send, ConnectionResetError when the server
        closes.
        """
        buffer = self._buffer
        buffer += data
        while buffer:
            if self._left:
                part = buffer[: self._left]
                del buffer[: len(part)]
                self.payload += part
                self._left -= len(part)
            elif not self._begin_frame(buffer):
                return

    def _begin_frame(self, buffer: bytearray) -> bool:
        """Read a frame's head, and a control frame whole; return True if that was all there."""
        if len(buffer) < 2:
            return False
        opcode = buffer[0] & 15
        size = buffer[1]
        final = buffer[0] & 0x80
        control = opcode in (_CLOSE, _PING, _PONG) and final and size <= _CONTROL_BYTES
        if not (control or opcode in (_CONTINUATION, _BINARY)) or buffer[0] & 0x70 or size & 0x80:
            raise MalformedPacket("a WebSocket frame that no server may send", buffer[0])
        at = 2
        if size > _CONTROL_BYTES:
            at = 4 if size == 126 else 10
            if len(buffer) < at:
                return False
            size = int.from_bytes(buffer[2:at], "big")
        if opcode >= _CLOSE:
            if len(buffer) < at + size:
                return False
            content = buffer[at : at + size]
            del buffer[: at + size]
            if opcode == _CLOSE:
                raise ConnectionResetError("the WebSocket was closed by the peer")
            if opcode == _PING:
                self.reply += self.frame(content, _PONG)
        else:
            del buffer[:at]
            self._left = size
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Move what there is of `payload` into `buffer`; return how much that is."""
        count = min(len(buffer), len(self.payload))
        buffer[:count] = self.payload[:count]
        del self.payload[:count]
        return count
