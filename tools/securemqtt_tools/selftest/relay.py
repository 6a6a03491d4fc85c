"""Between the board and the broker: passes bytes on, and holds them back or cuts the connections
when a scenario wants that.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from securemqtt_tools.demo.background import Background

_READ_BYTES = 65_536
_STEP_S = 0.005


class Direction:
    """The bytes that go one way; `held` may be set from any thread."""

    def __init__(self) -> None:
        self.held = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Move bytes until the end of input, and pass that on."""
        while True:
            await self._released()
            data = await reader.read(_READ_BYTES)
            await self._released()
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async def _released(self) -> None:
        while self.held:  # what waits is left to TCP, whose windows fill
            await asyncio.sleep(_STEP_S)


class Relay:
    """A relay on a free port of `address`, to the broker's port there, in a thread of its own.

    `up` leads to the broker, `down` to the board.
    """

    def __init__(self, address: str, target_port: int) -> None:
        self.up = Direction()
        self.down = Direction()
        self._target = address, target_port
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._background = Background()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Relay:
        self._background.__enter__()
        self._server = self._background.run(asyncio.start_server(self._carry, sock=self._listener))
        return self

    def __exit__(self, *exc: object) -> None:
        self._background.run(self._end())
        self._background.__exit__(*exc)

    def reset(self) -> None:
        """End every connection with RST, to both sides."""
        self._background.call(self._abort)

    async def _carry(self, reader: asyncio.StreamReader, board: asyncio.StreamWriter) -> None:
        ends = {board}
        self._writers.add(board)
        try:
            answers, broker = await asyncio.open_connection(*self._target)
            ends.add(broker)
            self._writers.add(broker)
            for one in ends:
                one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(self.up.carry(reader, broker), self.down.carry(answers, board))
        except (OSError, asyncio.CancelledError):  # the latter when the relay ends
            for one in ends:
                _reset(one)
        finally:
            for one in ends:
                one.close()
            self._writers -= ends

    def _abort(self) -> None:
        for one in list(self._writers):
            _reset(one)

    async def _end(self) -> None:
        self._server.close()
        self._abort()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Send RST: a close with a linger time of nothing does."""
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
