"""One TCP connection of the board, joined to its destination by the simulator, and how it goes
dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 64 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


def reset_connection(connection: Connection) -> None:
    """Close a connection with RST, as a device does that does not know it (any more)."""
    writer = connection[1]
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


class Link:
    """Carries the bytes of one connection both ways."""

    def __init__(self, board: Connection, far: Connection) -> None:
        self._board = board
        self._far = far
        self._pumps = (
            asyncio.create_task(_pump(board[0], far[1])),
            asyncio.create_task(_pump(far[0], board[1])),
        )

    async def run(self) -> bool:
        """Carry bytes until both sides have closed or one has broken, and close; False if `cut`
        came first.
        """
        done, going_on = await asyncio.wait(self._pumps, return_when=asyncio.FIRST_EXCEPTION)
        if any(pump.cancelled() for pump in done):
            return False
        if any(pump.exception() for pump in done):
            for pump in going_on:
                pump.cancel()
            reset_connection(self._board)
            reset_connection(self._far)
        else:
            self._board[1].close()
            self._far[1].close()
        return True

    def cut(self) -> None:
        """Go silent on both sides: neither hears anything from now on, neither is told."""
        for pump in self._pumps:
            pump.cancel()

    async def bury(self) -> None:
        """End a connection that was cut, once the radio is back: a reset for the board now, for the
        far side when it sends.
        """
        reset_connection(self._board)
        with contextlib.suppress(OSError):
            await self._far[0].read(1)
        reset_connection(self._far)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
    except OSError as error:
        raise ConnectionResetError from error
