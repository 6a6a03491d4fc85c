"""A command on a terminal of its own, with somebody typing."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

from support.speed import seconds

CTRL_D = "\x04"


class Terminal:
    """A running command; a context manager, which ends it, whatever it does."""

    def __init__(self, command: Sequence[str], columns: int = 80, **environment: str) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**_without_size(), **environment},
        )
        os.close(theirs)
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def answer(self, prompt: str, keys: str) -> None:
        """Wait for a prompt and type an answer."""
        deadline = time.monotonic() + seconds(60)
        while not self.seen.endswith(prompt):
            left_s = max(0.0, deadline - time.monotonic())
            assert select.select([self._ours], [], [], left_s)[0], self.seen
            self.seen += os.read(self._ours, 4096).decode()
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Read on until the command has ended; return its exit status."""
        try:
            while select.select([self._ours], [], [], seconds(60))[0] and (
                part := os.read(self._ours, 4096)
            ):
                self.seen += part.decode(errors="replace")
        except OSError:  # Linux reports the other end's close this way
            pass
        return self._process.wait(seconds(60))


def _without_size() -> dict[str, str]:
    """Return the environment without what would count for more than the terminal's own size."""
    return {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
