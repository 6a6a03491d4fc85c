"""What comes from files and pipes: no more than a message may have is ever held in memory."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from io import BufferedIOBase

from securemqtt_tools.cli import FatalError

_PIECE_BYTES = 1 << 16
# So long lines are counted that nobody sends; a pipe may have no end.
_COUNTING_S = 2


def read_whole(name: str, stream: BufferedIOBase, limit_bytes: int, why: str) -> bytes:
    """Return all that a stream has. Raise FatalError for more than `limit_bytes`, and say `why`
    they are the limit.
    """
    try:
        content = stream.read(limit_bytes + 1)
    except OSError as error:
        raise FatalError(f"cannot read {name}: {error.strerror}") from error
    if len(content) > limit_bytes:
        raise FatalError(f"{name} is longer than {limit_bytes} bytes, {why}")
    return content


class Lines:
    """The lines of standard input, as they come."""

    def __init__(self, stream: BufferedIOBase, limit_bytes: int, why: str) -> None:
        """`why` says why a line may have no more than `limit_bytes`."""
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._why = why
        self._cut = False  # whether a part of a line was read that was too long

    def __iter__(self) -> Iterator[bytes]:
        """Give each line without its end. Raise FatalError for one that is too long, and for what
        cannot be read.
        """
        number = 0
        try:
            while line := self._stream.readline(self._limit_bytes + len(b"\r\n")):
                number += 1
                self._cut = not line.endswith(b"\n")
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if len(line) > self._limit_bytes:
                    raise FatalError(
                        f"line {number} of standard input is longer than {self._limit_bytes} "
                        f"bytes, {self._why}"
                    )
                yield line
        except OSError as error:
            raise FatalError(f"cannot read standard input: {error.strerror}") from error

    def count_left(self) -> int | None:
        """Return how many lines there are behind the one that was read last; None if that is not
        soon known. They are read for that, and are gone.
        """
        end_s = time.monotonic() + _COUNTING_S
        count = -1 if self._cut else 0  # the end of that one is no line of its own
        behind_line = not self._cut
        try:
            while select.select([self._stream], [], [], max(0.0, end_s - time.monotonic()))[0]:
                piece = self._stream.read1(_PIECE_BYTES)
                if not piece:
                    return max(0, count if behind_line else count + 1)
                count += piece.count(b"\n")
                behind_line = piece.endswith(b"\n")
                if time.monotonic() >= end_s:
                    break
        except OSError:
            pass  # as good as a stream that does not end
        return None
