"""The simulated board: its power, its resets, its serial port, and what it answers to its own
interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.profiles import Profile

from .answers import RequestAnswers
from .clock import MISSING, BoardClock, find_libfaketime
from .flash import FlashChip
from .processor import Processor
from .radio import STATES, Radio
from .repl import LineEnds, OutputLog, ReplWatch
from .terminal import SerialPort, start_task

# Pointers, and so most objects, take twice the bytes on 64 bits that they take on a board.
HEAP_SCALE = 2
# What the board's own modules (rom/) take of the heap; on a board they are in the firmware.
ROM_HEAP_BYTES = 36 * 1024

UMQTT_REMARK = (
    "the firmware of the {} has umqtt.simple in it, this simulated one has not: copy "
    "it there like any module"
)

_CTRL_A = b"\x01"
_FALSE_STARTS = 3
_SOFT_REBOOT = b"MPY: soft reboot\r\n"

# What machine.reset_cause() gives:
PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5


class Ending(Enum):
    """Why a run of the interpreter ended."""

    OWN = "by itself, which is a soft reset"
    SOFT = "soft reset"
    RESET = "hard reset"
    WATCHDOG = "not fed"
    DEEP_SLEEP = "deep sleep"
    POWER_CUT = "power cut"


_CAUSES = {Ending.RESET: HARD_RESET, Ending.WATCHDOG: WDT_RESET, Ending.DEEP_SLEEP: DEEPSLEEP_RESET}


@dataclass(frozen=True)
class BoardOptions:
    """What a simulated board is like."""

    profile: Profile
    image: Path
    link: Path | None = None  # a symbolic link to the port, kept up to date
    ssid: str | None = None  # the only network there is; None: any name will do
    wifi_password: str | None = field(default=None, repr=False)
    hosts: dict[str, str] = field(default_factory=dict)  # names with an address of their own
    own_prompt: bool = False  # rom/prompt.py, even where the interpreter has a raw REPL


class Board:
    """A board. `port` is the path that programs open, empty while the power is off."""

    def __init__(self, options: BoardOptions, counters: Path) -> None:
        """Prepare the board; FatalError if the image cannot be used or the profile is not a
        board's.
        """
        profile = options.profile
        if profile.clock_start is None:
            raise FatalError(
                f"{profile.name} is not a board that can be simulated; choose another --profile"
            )
        if options.link is not None and options.link.exists() and not options.link.is_symlink():
            raise FatalError(
                f"{options.link} is in the way of the link to the port; choose another --link"
            )
        library = find_libfaketime()
        self.remarks = [] if library else [MISSING]
        if profile.umqtt_frozen:
            self.remarks.append(UMQTT_REMARK.format(profile.name))
        self.options = options
        self.profile = profile
        self.flash = FlashChip(
            options.image, counters, profile.filesystem_bytes, profile.block_bytes
        )
        states = STATES["esp32" if profile.family == "esp32" else "rp2"]
        self.radio = Radio(
            options.ssid,
            options.wifi_password,
            dict(options.hosts),
            states,
            profile.wifi_reconnects,
        )
        self.log = OutputLog()
        self.port = ""
        self.boots = 0
        self.formats = 0
        self.clock = BoardClock(profile.clock_start, library)
        self.watchdog = Watchdog(lambda: self.end(Ending.WATCHDOG))
        self.reset_cause = PWRON_RESET
        self._repl = ReplWatch()
        self._line_ends = LineEnds()
        self._powered = asyncio.Event()
        self._powered.set()
        self._accepts_input = asyncio.Event()
        self._wake = asyncio.Event()
        self._serial: SerialPort | None = None
        self._processor: Processor | None = None
        self._ending = Ending.OWN
        self._sleep_s: float | None = None
        self._starting = False
        self._false_starts = 0

    @property
    def powered(self) -> bool:
        """Return True if the power is on."""
        return self._powered.is_set()

    @property
    def running(self) -> bool:
        """Return whether an interpreter is running; after a power cut one may take a moment to
        end.
        """
        return self._processor is not None

    async def run(self) -> None:
        """Be a board, until cancelled. FatalError if the interpreter does not start."""
        try:
            while True:
                await self._powered.wait()
                await self._run_powered()
        finally:
            await self.radio.close()
            self.flash.close()

    def reset(self) -> None:
        """Reset, as by the button or `machine.reset()`; the port stays."""
        self.end(Ending.RESET)

    def soft_reset(self) -> None:
        """Start the interpreter again, as Ctrl-D at the prompt does."""
        self.end(Ending.SOFT)

    def power_cut(self) -> None:
        """Take the power away at once; the port goes with it."""
        if self.powered:
            self._powered.clear()
            self.flash.cancel_cut()
            self.end(Ending.POWER_CUT)
            self._publish_port("")

    def power_on(self) -> None:
        """Give the power back."""
        self._powered.set()

    def end(self, ending: Ending) -> None:
        """End this run of the interpreter, now; what follows depends on why."""
        if not self.powered and ending is not Ending.POWER_CUT:
            return
        self._ending = ending
        if ending not in (Ending.OWN, Ending.SOFT):
            self.radio.power_off()
            self.watchdog.stop()
        self._accepts_input.clear()
        if ending is not Ending.DEEP_SLEEP:
            self._wake.set()
        if self._processor is not None:
            self._processor.kill()

    def sleep(self, milliseconds: int | None) -> None:
        """Sleep deeply, then boot; None sleeps until a reset."""
        self._sleep_s = None if milliseconds is None else milliseconds / 1000
        self.end(Ending.DEEP_SLEEP)

    def started(self) -> None:
        """Let input in: the board's own preparations are over, boot.py comes next."""
        self._false_starts = 0
        self._starting = False
        self._accepts_input.set()
        if self._processor is not None:
            self._processor.tidy()

    async def booted(self) -> None:
        """Put the prompt into the raw REPL if the board was there before its soft reset."""
        if self._processor is None:
            return
        self._processor.drain()
        if self._repl.raw:
            self._accepts_input.clear()
            self._repl.hide_until_raw(self._accepts_input.set)
            await self._processor.type(_CTRL_A)

    def expect_binary(self, count: int) -> None:
        """Pass the next `count` bytes of output on as they are: the program writes to
        sys.stdout.buffer.
        """
        if self._processor is not None:
            self._processor.drain()
        self._line_ends.skip(count)

    @property
    def runs_main(self) -> bool:
        """Return True if main.py is to run: not after a soft reset from the raw REPL."""
        return not self._repl.raw

    async def _run_powered(self) -> None:
        serial = self._serial = SerialPort()
        tasks = [start_task(serial.run()), start_task(self._carry_input(serial))]
        self._publish_port(serial.name)
        self.clock.restart()
        self.reset_cause = PWRON_RESET
        self._repl = ReplWatch()
        self._ending = Ending.OWN
        try:
            while self._ending is not Ending.POWER_CUT:
                await self._live(serial)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._serial = None
            serial.close()
            self._publish_port("")

    async def _live(self, serial: SerialPort) -> None:
        """Run the interpreter once, and do what follows from its end."""
        self._ending = Ending.OWN
        self._wake.clear()
        self._accepts_input.clear()
        self.flash.power_up()
        self._starting = True
        self._repl.prompted = False
        self._false_starts += 1
        if self._false_starts > _FALSE_STARTS:
            raise FatalError(f"MicroPython does not start: {self.log.last_error()}")
        heap_bytes = self.profile.heap_bytes * HEAP_SCALE + ROM_HEAP_BYTES
        processor = Processor(self._emit, RequestAnswers(self).answer, lambda: self.flash.busy)
        await processor.start(heap_bytes, self.clock.environment(), serial.room)
        self._processor = processor
        if self._ending is not Ending.OWN:
            processor.kill()  # it was to end before it had begun
        self.boots += 1
        try:
            await processor.wait()
        finally:
            self._processor = None
            self._accepts_input.clear()
        if self._ending in (Ending.OWN, Ending.SOFT):
            self._emit(_SOFT_REBOOT)
            self.reset_cause = SOFT_RESET
            return
        self._repl = ReplWatch()
        if self._ending is Ending.DEEP_SLEEP:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._sleep_s)
        self.reset_cause = _CAUSES.get(self._ending, PWRON_RESET)
        if self._ending is not Ending.DEEP_SLEEP and not self.profile.clock_survives_reset:
            self.clock.restart()

    async def _carry_input(self, serial: SerialPort) -> None:
        while True:
            data = await serial.read()
            await self._accepts_input.wait()
            if self._processor is not None:
                await self._processor.type(data)

    def _emit(self, data: bytes) -> None:
        shown = self._repl.pass_on(self._line_ends.convert(data))
        self.log.add(shown)
        if self._serial is not None:
            self._serial.write(shown)
        if self._repl.prompted and self._starting and self._processor is not None:
            # a prompt before boot.py's turn: the board's own preparations failed
            self._processor.kill()

    def _publish_port(self, port: str) -> None:
        self.port = port
        link = self.options.link
        if link is None:
            return
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        if port:
            link.symlink_to(port)


class Watchdog:
    """The hardware watchdog: once started it must be fed in time, or it bites."""

    def __init__(self, bite: Callable[[], None]) -> None:
        self._bite = bite
        self._timeout_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, timeout_ms: int) -> None:
        """Start it, or change its time."""
        self._timeout_s = timeout_ms / 1000
        self.feed()

    def feed(self) -> None:
        """Begin the time again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._timeout_s:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._bite)

    def stop(self) -> None:
        """Stop it, as only a reset does."""
        self._timeout_s = 0.0
        if self._timer is not None:
            self._timer.cancel()
