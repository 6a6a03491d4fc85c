"""Drive simulated boards in tests: the real mpremote, and the bare serial line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import serial

from securemqtt_tools.cli import FatalError
from securemqtt_tools.simboard import SimulatedBoard
from securemqtt_tools.simboard.clock import find_libfaketime
from securemqtt_tools.simboard.interpreter import find_micropython
from support.requirements import missing
from support.speed import seconds

RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"
TIMEOUT_S = seconds(40)


def require_micropython() -> None:
    """Fail in CI, skip elsewhere, when there is no MicroPython for the simulated board."""
    try:
        find_micropython()
    except FatalError:
        missing("micropython", "micropython")


def require_libfaketime() -> None:
    """Fail in CI, skip elsewhere, when a board's clock cannot be set apart from the host's."""
    if find_libfaketime() is None:
        missing("libfaketime", "libfaketime")


def run_mpremote(port: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mpremote connect PORT …` to its end; its exit status and output are the caller's to
    judge.
    """
    program = Path(sys.executable).parent / "mpremote"
    return subprocess.run(
        [
            str(program) if program.exists() else str(shutil.which("mpremote")),
            "connect",
            port,
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def mpremote(board: SimulatedBoard, *arguments: str) -> str:
    """Run mpremote on the board and return what it prints; AssertionError if it fails."""
    done = run_mpremote(board.port, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.replace("\r\n", "\n")


class Line:
    """The board's serial line, as a terminal program has it."""

    def __init__(self, board: SimulatedBoard) -> None:
        self._serial = serial.Serial(board.port, timeout=0.2, exclusive=True)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *exc: object) -> None:
        self._serial.close()

    def send(self, data: bytes) -> None:
        """Type."""
        self._serial.write(data)

    def expect(self, text: bytes) -> bytes:
        """Read until `text` has come; return all that came.

        AssertionError after a generous time.
        """
        seen = b""
        deadline = time.monotonic() + TIMEOUT_S
        while not seen.endswith(text):
            assert time.monotonic() < deadline, f"{text!r} did not come, but {seen!r}"
            seen += self._serial.read(1)
        return seen

    def enter_raw_repl(self) -> None:
        """Interrupt whatever runs and enter the raw REPL."""
        self.send(b"\r\x03\r\x01")
        self.expect(RAW_PROMPT)

    def execute(self, program: str) -> bytes:
        """Run a program in the raw REPL; return what it printed and its traceback."""
        self.send(program.encode() + b"\x04")
        self.expect(b"OK")
        output = self.expect(b"\x04")[:-1] + self.expect(b"\x04")[:-1]
        self.expect(b">")
        return output
