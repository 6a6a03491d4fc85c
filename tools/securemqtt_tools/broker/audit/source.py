"""Reading a log from its end: so much of it at most, line by line, and what is written later."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained

MOST_BYTES = 16 * 1024 * 1024
_LONGEST_LINE = 4096
_CUT = b"..."  # at the end of a line that was longer: no line of a broker ends like that
_POLL_S = 0.5
_CHUNK = 65_536


class _Lines:
    """Makes lines of pieces. What is behind an overlong beginning never is the beginning of one."""

    def __init__(self, skip_first: bool = False) -> None:
        self._rest = b""
        self._is_skipping = skip_first

    def add(self, data: bytes) -> Iterator[bytes]:
        """Return the lines that are whole with this."""
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            if self._is_skipping:
                self._is_skipping = False
            elif len(line) > _LONGEST_LINE:
                yield line[:_LONGEST_LINE] + _CUT
            else:
                yield line
        if len(rest) > _LONGEST_LINE and not self._is_skipping:
            yield rest[:_LONGEST_LINE] + _CUT
            self._is_skipping = True
        self._rest = b"" if self._is_skipping else rest


class LogFile:
    """A log, with the one before it, NAME.1, where that is there. Raises FatalError."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._file = _opened(path)
        self._sizes: list[tuple[BinaryIO, int]] = []
        self.whole = True
        """Whether it is read from its beginning."""
        left = most_bytes
        size = os.fstat(self._file.fileno()).st_size
        self._begin = max(0, size - left)
        left -= size - self._begin
        older = path.with_name(path.name + ".1")
        if left > 0 and older.is_file():
            with explained(f"read {older}"):
                file = _opened(older)
            size = os.fstat(file.fileno()).st_size
            self._sizes.append((file, max(0, size - left)))
        self._sizes.append((self._file, self._begin))
        self.whole = self._sizes[0][1] == 0

    def lines(self) -> Iterator[bytes]:
        """Return all lines that are there by now, oldest first."""
        for file, begin in self._sizes:
            lines = _Lines(skip_first=begin > 0)
            file.seek(max(0, begin - 1))  # so a line that begins just there is whole
            with explained(f"read {self._path}"):
                while data := file.read(_CHUNK):
                    yield from lines.add(data)
        self._later = lines

    def later(self, goes_on: Callable[[], bool]) -> Iterator[bytes]:
        """Return lines as they are written, also into a new file of that name, for as long as
        `goes_on` says so.
        """
        while goes_on():
            with explained(f"read {self._path}"):
                while data := self._file.read(_CHUNK):
                    yield from self._later.add(data)
                if self._is_another():
                    self._file.close()
                    self._file, self._later = _opened(self._path), _Lines()
                    continue
            time.sleep(_POLL_S)

    def _is_another(self) -> bool:
        try:
            now = self._path.stat()
        except OSError:
            return False
        mine = os.fstat(self._file.fileno())
        return not os.path.samestat(now, mine) or now.st_size < self._file.tell()


def standard_input() -> Iterator[bytes]:
    """Return the lines that come from standard input, as they come."""
    lines = _Lines()
    while data := os.read(sys.stdin.fileno(), _CHUNK):
        yield from lines.add(data)
    yield from lines.add(b"\n")


def _opened(path: Path) -> BinaryIO:
    with explained(f"read {path}"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FatalError(f"cannot read {path}: it is no file (- is standard input)")
    return os.fdopen(descriptor, "rb")
