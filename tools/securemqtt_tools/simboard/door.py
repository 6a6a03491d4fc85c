"""Doors: how what the board sends gets into the simulator, and from there to the network.

The board's sockets are real ones. They lead to a *door* on loopback, one for each destination. A
door answers as the destination does: it lets in, it refuses, or it is silent, in which case the
kernel drops what comes (a socket filter) and the board's connect() waits until its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import Awaitable, Callable

from .link import Connection, reset_connection

LOOPBACK = "127.0.0.1"
_DATAGRAM = 64 * 1024
_SPARE_S = 10.0
# linux/filter.h; the program is "return 0": keep nothing of any packet.
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)

Visitor = Callable[["Door", Connection], Awaitable[None]]


class Door:
    """The way to one destination: a TCP and a UDP port of loopback with the same number.

    It refuses at first.
    """

    def __init__(self, address: tuple[str, int], visit: Visitor) -> None:
        self.address = address
        self._visit = visit
        self._tcp, self._udp = _bind_pair()
        self.port: int = self._tcp.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._silent = False
        self._spare: Connection | None = None
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.setblocking(False)
        self._board: tuple[str, int] | None = None
        loop = asyncio.get_running_loop()
        loop.add_reader(self._udp, self._datagram_from_board)
        loop.add_reader(self._far, self._datagram_from_far)

    async def let_in(self, spare: Connection | None = None) -> None:
        """Accept connections; the first may take `spare`, which leads to the destination
        already.
        """
        self._spare = spare
        if spare is not None:
            asyncio.get_running_loop().call_later(_SPARE_S, self._drop_spare, spare)
        await self._serve()
        if self._silent:
            self._tcp.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            self._silent = False

    async def go_silent(self) -> None:
        """Let whatever comes vanish."""
        if not self._silent:
            program = ctypes.create_string_buffer(_DROP_ALL)
            order = struct.pack("HL", 1, ctypes.addressof(program))
            self._tcp.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, order)
            self._silent = True
        await self._serve()

    def take_spare(self) -> Connection | None:
        """Return the connection that is ready, once."""
        spare, self._spare = self._spare, None
        return spare

    def close(self) -> None:
        """Shut the door; links that came through it stay."""
        loop = asyncio.get_running_loop()
        for descriptor in (self._udp, self._far):
            loop.remove_reader(descriptor)
            descriptor.close()
        if self._server is not None:
            self._server.close()
        self._tcp.close()
        if self._spare is not None:
            self._drop_spare(self._spare)

    async def _serve(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._arrive, sock=self._tcp.dup())

    async def _arrive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._visit(self, (reader, writer))

    def _drop_spare(self, spare: Connection) -> None:
        if self._spare is spare:
            self._spare = None
            reset_connection(spare)

    def _datagram_from_board(self) -> None:
        with contextlib.suppress(OSError):
            data, self._board = self._udp.recvfrom(_DATAGRAM)
            if not self._silent:
                self._far.sendto(data, self.address)

    def _datagram_from_far(self) -> None:
        with contextlib.suppress(OSError):
            data = self._far.recv(_DATAGRAM)
            if not self._silent and self._board is not None:
                self._udp.sendto(data, self._board)


def _bind_pair() -> tuple[socket.socket, socket.socket]:
    """Bind a TCP and a UDP socket to one port number that is free for both."""
    while True:
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp.bind((LOOPBACK, 0))
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        tcp.setblocking(False)
        udp.setblocking(False)
        return tcp, udp
