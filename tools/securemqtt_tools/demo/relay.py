"""The relay on the wire: passes bytes on between clients and broker, and keeps all that it saw, as
a wire tap would.

It can also turn hostile: a line that is given another target leads there from the next connection
on.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

from securemqtt_tools.demo.background import Background

_READ_BYTES = 65_536
# The whole demonstration moves some hundred kilobytes.
_RECORD_BYTES = 8 * 1024 * 1024


@dataclass
class Stream:
    """The bytes that went one way through one connection."""

    line: str
    up: bool
    content: bytearray = field(default_factory=bytearray, repr=False)


class Line:
    """One way through the relay, with a port of its own.

    `target_port` and `shut` may be set from any thread.
    """

    def __init__(self, relay: Relay, name: str, target_port: int) -> None:
        self.name = name
        self.target_port = target_port
        self.shut = False  # a shut line turns away whoever comes
        self.port = 0
        self.accepted = 0
        self._relay = relay

    async def open(self) -> None:
        """Listen on a free port of loopback."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _carry(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        ends = [client]
        try:
            if self.shut:
                return
            answers, broker = await asyncio.open_connection("127.0.0.1", self.target_port)
            ends.append(broker)
            for end in ends:
                end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            up, down = self._relay.new_streams(self.name)
            await asyncio.gather(self._pass(reader, broker, up), self._pass(answers, client, down))
        except OSError:
            # one side has gone, or there is no broker: the other side learns of it
            for end in ends:
                _reset(end)
        finally:
            for end in ends:
                end.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream
    ) -> None:
        while data := await reader.read(_READ_BYTES):
            self._relay.record(stream, data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()


class Relay:
    """All lines, and the record of what went through them. Its lines run in `background`."""

    def __init__(self, background: Background) -> None:
        self.streams: list[Stream] = []
        self.size_bytes = 0
        self._background = background

    @property
    def complete(self) -> bool:
        """Return True if the record holds everything: it is bounded."""
        return self.size_bytes <= _RECORD_BYTES

    def line(self, name: str, target_port: int) -> Line:
        """Open a line to a port on loopback."""
        line = Line(self, name, target_port)
        self._background.run(line.open())
        return line

    def new_streams(self, line: str) -> tuple[Stream, Stream]:
        """Begin the record of a connection: up, towards the broker, and down."""
        up, down = Stream(line, True), Stream(line, False)
        self.streams += (up, down)
        return up, down

    def record(self, stream: Stream, data: bytes) -> None:
        """Keep a copy, within the bound."""
        self.size_bytes += len(data)
        if self.complete:
            stream.content += data


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a network does whose far end has died; unless it is closed already."""
    if writer.transport.is_closing():
        return
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()
