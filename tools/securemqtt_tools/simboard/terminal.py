"""The two pseudo-terminals of a board: the serial port that programs open, and the console that
MicroPython sits on.

Between them the simulator passes every byte on, so that it can restart the interpreter while the
port stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import tty
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from securemqtt_tools.cli import FatalError

_CHUNK = 4096
_OUTPUT_LIMIT = 64 * 1024
# nothing in the kernel says that a closed pseudo-terminal has been opened again
_REOPEN_POLL_S = 0.02
_FULL_POLL_S = 0.002
# as USB serial on a board: wait that long for the reader, then drop until it reads
_STALLED_READER_S = 0.5


def start_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task whose failure is reported at once, not when it is waited for."""
    task = asyncio.create_task(work)
    task.add_done_callback(_report_failure)
    return task


def _report_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        context = {"message": "a part of the simulator has failed", "exception": task.exception()}
        task.get_loop().call_exception_handler(context)


async def _ready(descriptor: int, writing: bool = False) -> None:
    """Wait until a descriptor can be read (or written)."""
    loop = asyncio.get_running_loop()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    )
    happened = asyncio.Event()
    add(descriptor, happened.set)
    try:
        await happened.wait()
    finally:
        remove(descriptor)


def _open_terminal() -> tuple[int, int]:
    """Open a pseudo-terminal; FatalError where the machine has none to give."""
    try:
        return os.openpty()
    except OSError as error:
        raise FatalError(
            f"this machine gives the simulated board no pseudo-terminal ({error.strerror}): look "
            "whether devpts is mounted at /dev/pts, as containers may leave out, and how many "
            "/proc/sys/kernel/pty/max allows"
        ) from error


class SerialPort:
    """The board's side of the serial port. Output that nobody reads is lost, as on a board."""

    def __init__(self) -> None:
        self._master, slave = _open_terminal()
        self.name = os.ttyname(slave)
        tty.setraw(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self._poll = select.poll()
        self._poll.register(self._master, select.POLLIN)
        self._output: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._stalled = False
        self._more = asyncio.Event()
        self._less = asyncio.Event()

    def close(self) -> None:
        """Pull the plug: whoever has the port open gets an error or the end of the file."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    @property
    def is_open(self) -> bool:
        """Return True if some program has the port open."""
        return not any(event & select.POLLHUP for _, event in self._poll.poll(0))

    async def read(self) -> bytes:
        """Wait for input and return it."""
        while True:
            if not self.is_open:
                await asyncio.sleep(_REOPEN_POLL_S)
                continue
            await _ready(self._master)
            with contextlib.suppress(BlockingIOError, OSError):  # EIO: closed in between
                data = os.read(self._master, _CHUNK)
                if data:
                    return data

    def write(self, data: bytes) -> None:
        """Queue output; it goes in the order of the calls."""
        self._output.append(data)
        self._waiting_bytes += len(data)
        self._more.set()

    async def room(self) -> None:
        """Wait until the queue is short enough for more."""
        while self._waiting_bytes > _OUTPUT_LIMIT:
            self._less.clear()
            await self._less.wait()

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            while not self._output:
                self._more.clear()
                await self._more.wait()
            data = self._output.popleft()
            self._waiting_bytes -= len(data)
            await self._send(data)
            self._less.set()

    async def _send(self, data: bytes) -> None:
        while data and self.is_open:
            try:
                data = data[os.write(self._master, data) :]
                self._stalled = False
            except BlockingIOError:
                if self._stalled:
                    return
                try:
                    await asyncio.wait_for(_ready(self._master, writing=True), _STALLED_READER_S)
                except asyncio.TimeoutError:
                    self._stalled = True
            except OSError:  # EIO: closed in between
                return


class Console:
    """The terminal of one interpreter; it changes nothing that passes."""

    def __init__(self) -> None:
        self._closed = False
        self._master, self._slave = _open_terminal()
        self.name = os.ttyname(self._slave)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)

    def close(self) -> None:
        """Give both ends up; a process that is still there is hung up on."""
        os.close(self._slave)
        os.close(self._master)
        self._closed = True

    def drain(self, take: Callable[[bytes], None]) -> None:
        """Hand all output that is there to `take`: without an end while a program prints on."""
        while self.take_some(take):
            pass

    def take_some(self, take: Callable[[bytes], None]) -> bool:
        """Hand some of the output that is there to `take`; return True if there was any."""
        try:
            take(os.read(self._master, _CHUNK))
        except BlockingIOError:
            return False
        return True

    async def readable(self) -> None:
        """Wait until there is output."""
        await _ready(self._master)

    async def type(self, data: bytes) -> None:
        """Give input to the interpreter; waits while it reads too slowly."""
        while data and not self._closed:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await asyncio.sleep(_FULL_POLL_S)
