"""Doors: how what the board sends gets into the simulator, and from there to the network.

The board's sockets are real ones. They lead to a *door* on loopback, one for each destination. A
door answers as the destination does: it lets in, it refuses, or it is silent: its queue of callers
is full, the kernel drops who comes then, and the board's connect() waits until its deadline. (A
socket filter would do the same; but some kernels refuse it to a plain user.)
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable

from .link import Connection, reset_connection

LOOPBACK = "127.0.0.1"
_DATAGRAM = 64 * 1024
_SPARE_S = 10.0
_WAITING = 100
# No descriptor or no memory is left for whoever waits: asyncio's own servers pause as long.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 1.0

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
        self._open = False
        self._visits: set[asyncio.Task[None]] = set()
        self._filler: socket.socket | None = None  # takes the queue's one place while it is silent
        self._leaving: set[tuple[str, int]] = set()  # fillers that are still in the queue
        self._changing = asyncio.Lock()
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
        async with self._changing:
            if self._filler is not None:
                self._take_out(self._filler)
                self._filler = None
            if not self._open:
                # Not by asyncio's server: that of CPython 3.13 complains on standard error of who
                # comes in the moment in which it is closed.
                self._tcp.listen(_WAITING)
                self._open = True
                self._accept_more()

    async def go_silent(self) -> None:
        """Let whatever comes vanish."""
        async with self._changing:
            if self._filler is not None:
                return
            self._shut()
            self._tcp.listen(0)  # one may wait; Linux drops who comes then
            self._filler = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._filler.setblocking(False)
            self._filler.connect_ex(self._tcp.getsockname())

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
        self._shut()
        self._tcp.close()
        if self._filler is not None:
            self._filler.close()
        if self._spare is not None:
            self._drop_spare(self._spare)

    def _shut(self) -> None:
        if self._open:
            asyncio.get_running_loop().remove_reader(self._tcp)
            self._open = False

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, address = self._tcp.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                loop.remove_reader(self._tcp)
                loop.call_later(_PAUSE_S, self._accept_more)
            return  # else whoever came has gone again
        visit = loop.create_task(self._arrive(connection, address))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    def _accept_more(self) -> None:
        if self._open:
            asyncio.get_running_loop().add_reader(self._tcp, self._accept)

    def _take_out(self, filler: socket.socket) -> None:
        with filler, contextlib.suppress(OSError):  # it found the queue full, and is not in it
            filler.getpeername()
            self._leaving.add(filler.getsockname())

    async def _arrive(self, connection: socket.socket, address: tuple[str, int]) -> None:
        streams = await asyncio.open_connection(sock=connection)
        if address in self._leaving:
            self._leaving.remove(address)
            reset_connection(streams)
            return
        await self._visit(self, streams)

    def _drop_spare(self, spare: Connection) -> None:
        if self._spare is spare:
            self._spare = None
            reset_connection(spare)

    def _datagram_from_board(self) -> None:
        with contextlib.suppress(OSError):
            data, self._board = self._udp.recvfrom(_DATAGRAM)
            if self._filler is None:
                self._far.sendto(data, self.address)

    def _datagram_from_far(self) -> None:
        with contextlib.suppress(OSError):
            data = self._far.recv(_DATAGRAM)
            if self._filler is None and self._board is not None:
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
