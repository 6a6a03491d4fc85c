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
    """Standard output takes no more: the disk is full, say."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {error.strerror}")


class _Output:
    """Standard output; what goes wrong in writing is an OutputError, told from whatever else may.
    Once nobody reads it any more, it goes nowhere, and the command comes to its end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.reader_gone = False

    def write(self, text: str) -> int:
        with self._as_long_as_it_is_read():
            return self._stream.write(text)
        return len(text)

    def write_bytes(self, content: bytes) -> None:
        with self._as_long_as_it_is_read():
            self._stream.buffer.write(content)

    def flush(self) -> None:
        with self._as_long_as_it_is_read():
            self._stream.flush()

    def discard(self) -> None:
        """Have what is held back go nowhere, else Python would fail with it at the end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    @contextmanager
    def _as_long_as_it_is_read(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.reader_gone = True
            self.discard()
        except OSError as error:
            raise OutputError(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_terminal(stream: TextIO | None) -> bool:
    """Return True if somebody sits there; a stream may have been closed by who called us."""
    return stream is not None and stream.isatty()


def write_bytes(content: bytes) -> None:
    """Write to standard output what is no text, as a command's output. Raise OutputError."""
    if isinstance(sys.stdout, _Output):
        sys.stdout.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)


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
    before = sys.stdout
    if before is None:  # closed by who called us, who so wants nothing of it
        yield
        return
    sys.stdout = output = _Output(before)
    try:
        try:
            yield
        finally:
            output.flush()
    except OutputError:
        output.discard()
        raise
    finally:
        sys.stdout = before
