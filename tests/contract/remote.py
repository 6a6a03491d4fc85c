"""The test's end of remote_device.py."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from contract.play import prepared
from support.speed import seconds

_PROGRAM = Path(__file__).with_name("remote_device.py")
_LIMIT_S = seconds(60)
# How long a device serves the network for what must come.
_PATIENCE_S = seconds(20)


class Remote:
    """A device in a process of its own under one interpreter; ended with the block, after
    `_LIMIT_S` in any case. `directory`: see `prepared`.
    """

    def __init__(self, interpreter: str, bundle: Path, directory: Path, **options: object) -> None:
        command, environment = prepared(interpreter, _PROGRAM, directory)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._limit = threading.Timer(_LIMIT_S, self.process.kill)
        self._limit.start()
        self.ask(f"make({str(bundle)!r}, {options!r}, {_PATIENCE_S})")

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self._limit.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def tell(self, expression: str) -> None:
        """Have an expression evaluated; `answer` gives what comes of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the value of what was told; AssertionError if it was an exception."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("= "):
                return json.loads(line[2:])
            assert not line.startswith("! "), line
        raise AssertionError("the device has gone")

    def ask(self, expression: str) -> Any:
        """Have an expression evaluated, and return its value."""
        self.tell(expression)
        return self.answer()

    def resident_bytes(self) -> int:
        """Return how much memory its process has (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * 4096
