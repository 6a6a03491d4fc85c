"""Standard output: a full disk is one line; a pipe that nobody reads any more is no fault."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from securemqtt_tools.errors import FatalError


class OutputError(FatalError):
    """Standard output takes no more: a full disk, or, with `reader_gone`, a pipe that nobody reads
    any more.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {error.strerror}")
        self.reader_gone = isinstance(error, BrokenPipeError)


@contextmanager
def writing_output() -> Iterator[None]:
    """Have what goes wrong in writing to standard output be an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(error) from error


def discard_output() -> None:
    """Have what standard output holds back go nowhere, else Python would fail with it at the
    end.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Output:
    """Standard output; what goes wrong in writing is told from whatever else may. Once nobody reads
    it any more, it goes nowhere, and the command comes to its end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.reader_gone = False

    def write(self, text: str) -> int:
        with self._as_long_as_it_is_read():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._as_long_as_it_is_read():
            self._stream.flush()

    @contextmanager
    def _as_long_as_it_is_read(self) -> Iterator[None]:
        try:
            with writing_output():
                yield
        except OutputError as error:
            if not error.reader_gone:
                raise
            self.reader_gone = True
            discard_output()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def reader_has_gone() -> bool:
    """Return True if standard output is a pipe that nobody reads any more, as after `| head -1`:
    else one would learn it from the next line only.
    """
    if isinstance(sys.stdout, _Output) and sys.stdout.reader_gone:
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def whole_output() -> Iterator[None]:
    """Have all that is printed in the block be written at its end, too. Raise FatalError."""
    output = sys.stdout
    if output is None:  # closed by who called us, who so wants nothing of it
        yield
        return
    sys.stdout = _Output(output)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputError:
        discard_output()
        raise
    finally:
        sys.stdout = output
