"""One run of the interpreter: from its start to its end, with its console and its line to the
simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .clock import unlink_shared_memory
from .interpreter import start_micropython
from .launch import SAFE_INTERRUPT
from .terminal import Console, start_task

# Answers a request of the board: verb, arguments -> value; OSError to refuse it with an error
# number.
Answer = Callable[[str, list[Any]], Awaitable[Any]]

_CTRL_C = b"\x03"
_STOP_LIMIT_S = 1.0
_AT_REST_LIMIT_S = 0.5
_RETRY_S = 0.001
_COMPUTING_LIMIT_S = 0.5
_CHANNEL_LIMIT = 1024 * 1024


class Processor:
    """A running interpreter. `emit` gets what it prints, `answer` is asked what it asks.

    `flash_busy` tells whether it is in the middle of an access to its flash.
    """

    def __init__(
        self, emit: Callable[[bytes], None], answer: Answer, flash_busy: Callable[[], bool]
    ) -> None:
        self._emit = emit
        self._answer = answer
        self._flash_busy = flash_busy
        self._console = Console()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(
        self, heap_bytes: int, environment: dict[str, str], room: Callable[[], Awaitable[None]]
    ) -> None:
        """Start the interpreter; `room` is waited for before more of its output is taken."""
        ours, its = socket.socketpair()
        with its:
            self._process = await start_micropython(
                self._console.name, its.fileno(), heap_bytes, environment
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_CHANNEL_LIMIT)
        self._tasks = [start_task(self._serve()), start_task(self._carry_output(room))]

    async def wait(self) -> None:
        """Wait for its end, and take what it still has printed."""
        try:
            await self._process.wait()
        finally:
            self.kill()
            # Else asyncio would hear of it when its loop is closed, and complain (before 3.12).
            await self._process.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.drain()
            self._console.close()
            self._writer.close()
            unlink_shared_memory(self._process.pid)

    def kill(self) -> None:
        """End it at once, as when the power goes."""
        if self._process.returncode is None:
            self._process.kill()

    def tidy(self) -> None:
        """Remove what its start has left; it is running by now."""
        unlink_shared_memory(self._process.pid)

    def drain(self) -> None:
        """Take what it has printed so far."""
        self._console.drain(self._emit)

    async def type(self, data: bytes) -> None:
        """Give it input.

        Ctrl-C interrupts a running program; where none runs, or it has asked for it, it is a
        character.
        """
        for part in re.split(b"(\x03)", data):
            if part == _CTRL_C and await self._interrupt():
                continue
            if part:
                await self._console.type(part)

    async def _interrupt(self) -> bool:
        """Interrupt the running program; tell whether there was one.

        MicroPython has a handler for SIGINT while a program runs, and would end on that signal
        otherwise: so it stands still while that is looked up. Where the launcher has set up a
        handler that waits for a safe moment, as on a board, that gets its signal. Where it could
        not, SIGINT's own handler leaves by a jump whatever it finds under way, locks and file
        system included: so it is sent, if that comes soon, while the interpreter waits for the
        kernel and its flash is at rest.
        """
        deadline = time.monotonic() + _AT_REST_LIMIT_S
        while self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGSTOP)
            try:
                await _stopped(self._process.pid)
                caught = int(_status_field(self._process.pid, "SigCgt") or "0", 16)
                if not caught & _mask(signal.SIGINT):
                    return False
                if caught & _mask(SAFE_INTERRUPT):
                    os.kill(self._process.pid, SAFE_INTERRUPT)
                    return True
                at_rest = not self._flash_busy() and _waits(self._process.pid)
                if at_rest or time.monotonic() > deadline:
                    os.kill(self._process.pid, signal.SIGINT)
                    return True
            except ProcessLookupError:
                return True
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGCONT)
            await asyncio.sleep(_RETRY_S)
        return True

    async def _carry_output(self, room: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._console.readable()
            self._console.take_some(self._emit)
            await room()

    async def _serve(self) -> None:
        while line := await self._request():
            try:
                sequence, verb, arguments = json.loads(line)
            except ValueError:
                continue  # cut short by a Ctrl-C, and asked again
            error, value = 0, None
            try:
                value = await self._answer(verb, arguments)
            except OSError as refusal:
                error = refusal.errno or errno.EIO
            except (KeyError, TypeError, ValueError):
                error = errno.EINVAL
            self._writer.write(json.dumps([sequence, error, value]).encode() + b"\n")

    async def _request(self) -> bytes:
        """Return the interpreter's next request; nothing once it has ended, also where it left an
        answer unread, as in a deep sleep.
        """
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""


def _status_field(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return line.split(":", 1)[1].strip()
    return ""


async def _stopped(pid: int) -> None:
    deadline = time.monotonic() + _STOP_LIMIT_S
    while _status_field(pid, "State")[:1] not in ("T", "Z", "") and time.monotonic() < deadline:
        await asyncio.sleep(0)


def _waits(pid: int) -> bool:
    """Return whether a stopped process was in a system call; where that cannot be known, say
    yes.
    """
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/syscall").read_text().split()[:1] not in (["-1"], ["running"])
    return True


def _mask(number: int) -> int:
    return 1 << (number - 1)
