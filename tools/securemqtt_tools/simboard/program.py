"""The simulator as a program: one board, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

from securemqtt_tools.cli import FatalError

from .board import Board, BoardOptions
from .control import ControlServer
from .interpreter import find_micropython


def check_machine() -> None:
    """Raise FatalError where no board can be simulated, before anything is made for one."""
    if sys.platform != "linux":
        raise FatalError("the simulated board needs Linux")
    find_micropython()


def run_simulator(options: BoardOptions, control: Path, with_parent: bool) -> None:
    """Run a board until SIGINT, SIGTERM or a `stop` on the control socket.

    `with_parent`, the end of standard input ends it too, and it then removes the directory of the
    control socket, which is the parent's and nobody else's.

    Prints the path of the serial port first, on a line of its own. FatalError if the board cannot
    start.
    """
    try:
        asyncio.run(_run(options, control, with_parent))
    except OSError as error:
        raise FatalError(f"the simulated board cannot go on: {error}") from error


async def _run(options: BoardOptions, control: Path, with_parent: bool) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    orphaned = asyncio.Event()
    if with_parent:
        loop.add_reader(sys.stdin, _stop_at_end, orphaned, stopped)
    board = Board(options, control.with_suffix(".counters"))
    server = await ControlServer(board, stopped.set).start(control)
    life = asyncio.create_task(board.run())
    stop = asyncio.create_task(stopped.wait())
    await _announce(board, life)
    await asyncio.wait({life, stop}, return_when=asyncio.FIRST_COMPLETED)
    server.close()
    with contextlib.suppress(FileNotFoundError):
        control.unlink()
    stop.cancel()
    life.cancel()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await life
    finally:
        if orphaned.is_set():
            shutil.rmtree(control.parent, ignore_errors=True)


async def _announce(board: Board, life: asyncio.Task[None]) -> None:
    while not board.port and not life.done():
        await asyncio.sleep(0)
    if not board.port:
        return  # why, `life` raises
    print(board.options.link or board.port, flush=True)
    for remark in board.remarks:
        print(f"securemqtt: {remark}", file=sys.stderr, flush=True)


def _stop_at_end(orphaned: asyncio.Event, stopped: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin)
        orphaned.set()
        stopped.set()
