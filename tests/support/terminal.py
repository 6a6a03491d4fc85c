"""A command on a terminal of its own, with somebody typing."""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

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
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.seen = ""
        self._found = 0  # up to where `wait_for` has found what it was to find

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def answer(self, prompt: str, keys: str) -> None:
        """Wait for a prompt and type an answer."""
        self._read_until(lambda: self.seen.endswith(prompt))
        self.type(keys)

    def wait_for(self, *texts: str) -> None:
        """Wait until it has shown these, one after the other and after those of the last time."""
        for text in texts:
            self._read_until(lambda text=text: text in self.seen[self._found :])
            self._found = self.seen.index(text, self._found) + len(text)

    def end(self) -> int:
        """Read on until the command has ended; return its exit status."""
        deadline = time.monotonic() + seconds(60)
        with suppress(OSError):  # Linux reports the other end's close this way
            while self._read(deadline):
                pass
        return self._process.wait(seconds(60))

    def _read_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds(60)
        while not condition():
            self._read(deadline)

    def _read(self, deadline: float) -> bool:
        left_s = max(0.0, deadline - time.monotonic())
        assert select.select([self._ours], [], [], left_s)[0], self.seen
        data = os.read(self._ours, 4096)
        self.seen += self._decoder.decode(data)
        return bool(data)


def _without_size() -> dict[str, str]:
    """Return the environment without what would count for more than the terminal's own size."""
    return {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
