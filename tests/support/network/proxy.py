"""A TCP proxy that misbehaves on request, for what happens to a connection between a device and its
broker.

with Proxy(broker.port) as proxy:
    proxy.up.hold()             # nothing more reaches the broker, and nobody is told
    proxy.down.hold(after=3)    # three more bytes reach the device
    proxy.down.delay_s = 0.25   # in flight for so long, at full throughput
    proxy.up.piece_bytes = 1    # trickles
    proxy.down.hold_at(choose)  # no new connection gets beyond the TLS record chosen
    proxy.reset()               # both sides get RST
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable

from securemqtt_tools.demo.background import Background

_READ_BYTES = 65_536
# What is under way in a delayed direction; TCP's own windows bound the rest.
_QUEUED = 1_000
_HEADER_BYTES = 5
_STEP_S = 0.005

Records = list[tuple[int, int]]
"""The TLS records that went one way in a connection: their types (RFC 8446 §5.1) and the
lengths of what follows their headers.
"""


class Tracker:
    """Follows the TLS records of one direction of a connection, until one of them is chosen."""

    def __init__(self, choose: Callable[[Records], bool]) -> None:
        self._choose = choose
        self._records: Records = []
        self._header = bytearray()
        self._left = 0

    def find(self, data: bytes) -> int | None:
        """Return where in `data` the chosen record begins, None if it does not."""
        at = 0
        while at < len(data):
            if self._left:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                continue
            begins = max(0, at - len(self._header))
            taken = min(_HEADER_BYTES - len(self._header), len(data) - at)
            self._header += data[at : at + taken]
            at += taken
            if len(self._header) == _HEADER_BYTES:
                self._left = int.from_bytes(self._header[3:], "big")
                self._records.append((self._header[0], self._left))
                self._header.clear()
                if self._choose(self._records):
                    return begins
        return None


class Direction:
    """What happens to the bytes that go one way, over all connections.

    Set at any time, from any thread.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.piece_bytes = 0
        """0: as they come. Otherwise so many at a time, each in a segment of its own, `pause_s`
        apart.
        """
        self.pause_s = 0.0
        self.passed_bytes = 0
        self.caught = 0
        """How many connections have come to the record that `hold_at` chose."""
        self._allowed: int | None = None
        self._choose: Callable[[Records], bool] | None = None

    def hold(self, after: int = 0) -> None:
        """Let `after` more bytes through, then none, without a word to either side; they wait as in
        a network's queues.
        """
        self._allowed = after

    def hold_at(self, choose: Callable[[Records], bool]) -> None:
        """Let each connection that is made from now on through up to the record after which
        `choose`, given all up to it, says true.
        """
        self._choose = choose

    def release(self) -> None:
        """Let everything through again, what waited first."""
        self._allowed = None
        self._choose = None

    @property
    def holding(self) -> bool:
        """Whether nothing gets through now."""
        return self._allowed == 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Move bytes until the end of input, and pass that on."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        sending = asyncio.create_task(self._send(queue, writer))
        try:
            data = b"-"
            while data:
                await self._opened()  # what is held back is left to TCP, whose windows fill
                data = await reader.read(_READ_BYTES)
                await queue.put((time.monotonic() + self.delay_s, data))
            await sending
        finally:
            sending.cancel()

    async def _send(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        tracker = Tracker(self._choose) if self._choose else None
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                await self._may_pass(1)
                writer.write_eof()
                return
            begins = tracker.find(data) if tracker else None
            if begins is not None:
                await self._pass_on(data[:begins], writer)
                data, tracker = data[begins:], None
                self.caught += 1
                while self._choose:
                    await asyncio.sleep(_STEP_S)
            await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            count = await self._may_pass(self.piece_bytes or len(data))
            writer.write(data[:count])
            await writer.drain()
            self.passed_bytes += min(count, len(data))
            data = data[count:]
            if self.pause_s:
                await asyncio.sleep(self.pause_s)

    async def _opened(self) -> None:
        while self.holding:
            await asyncio.sleep(_STEP_S)

    async def _may_pass(self, wanted: int) -> int:
        await self._opened()
        if self._allowed is None:
            return wanted
        count = min(wanted, self._allowed)
        self._allowed -= count
        return count


class Proxy:
    """A proxy on an address of loopback, by default on a free port, in a thread of its own.

    `up` leads to the broker, `down` to the device.
    """

    def __init__(self, target_port: int, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.target_port = target_port
        """Where new connections are taken to; a port that nothing listens on refuses them."""
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        self._listener = socket.create_server(address)
        self.port: int = self._listener.getsockname()[1]
        self._background = Background()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    def __enter__(self) -> Proxy:
        self._background.__enter__()
        self._server = self._background.run(asyncio.start_server(self._carry, sock=self._listener))
        return self

    def __exit__(self, *exc: object) -> None:
        self._background.run(self._end())
        self._background.__exit__(*exc)

    def reset(self) -> None:
        """Reset every connection: RST to both sides."""
        self._background.run(self._abort_all())

    def close(self) -> None:
        """Close every connection in order: FIN to both sides."""
        self._background.run(self._close_all())

    def half_close(self) -> None:
        """Tell the device that the broker sends nothing more, and take what the device sends."""
        self._background.run(self._half_close(0))

    def half_close_up(self) -> None:
        """Tell the broker that the device sends nothing more, and take what the broker sends."""
        self._background.run(self._half_close(1))

    async def _end(self) -> None:
        self._server.close()
        await self._abort_all()

    async def _carry(self, reader: asyncio.StreamReader, device: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            answers, broker = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            _abort(device)
            return
        pair = (device, broker)
        self._pairs.add(pair)
        for writer in pair:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.gather(self.up.carry(reader, broker), self.down.carry(answers, device))
        except (OSError, asyncio.CancelledError):  # the latter when the proxy ends
            _abort(device)
            _abort(broker)
        finally:
            self._pairs.discard(pair)
            device.close()
            broker.close()

    async def _close_all(self) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                writer.close()

    async def _half_close(self, side: int) -> None:
        for pair in list(self._pairs):
            pair[side].get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def _abort_all(self) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    """Send RST: a close with a linger time of nothing does."""
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
