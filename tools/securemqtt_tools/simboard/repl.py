"""What the board prints, on its way to the port: which REPL it is in, and what has been printed so
far.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"
_FRIENDLY_BANNER = b'Type "help()" for more information.\r\n'
_PROMPT = b">>> "
_LOG_BYTES = 1024 * 1024


class ReplWatch:
    """Knows whether the board is in the raw REPL, since a soft reset keeps that and a new
    interpreter does not know it.
    """

    def __init__(self) -> None:
        self.raw = False
        self.prompted = False  # the friendly prompt has been seen
        self._tail = b""
        self._hidden: bytes | None = None
        self._reached: Callable[[], None] | None = None

    def hide_until_raw(self, reached: Callable[[], None]) -> None:
        """Swallow output (the friendly prompt) until the raw REPL's first, then call `reached`."""
        self._hidden = b""
        self._reached = reached

    def pass_on(self, data: bytes) -> bytes:
        """Take output; return what is for the port."""
        seen = self._tail + data
        raw, friendly = seen.rfind(_RAW_PROMPT), seen.rfind(_FRIENDLY_BANNER)
        if raw != friendly:
            self.raw = raw > friendly
        self.prompted = self.prompted or _PROMPT in seen
        self._tail = seen[1 - max(len(_RAW_PROMPT), len(_FRIENDLY_BANNER)) :]
        if self._hidden is None:
            return data
        self._hidden += data
        start = self._hidden.find(_RAW_PROMPT)
        if start < 0:
            return b""
        shown, self._hidden = self._hidden[start:], None
        if self._reached is not None:
            self._reached()
        return shown


class LineEnds:
    """Puts a carriage return before each newline that has none, as a board's `print` does."""

    def __init__(self) -> None:
        self._skip = 0
        self._after_return = False

    def skip(self, count: int) -> None:
        """Leave the next `count` bytes as they are."""
        self._skip = count

    def convert(self, data: bytes) -> bytes:
        """Take output as the interpreter wrote it; return it as a board sends it."""
        binary, text = data[: self._skip], data[self._skip :]
        self._skip -= len(binary)
        if not text:
            return binary
        converted = re.sub(rb"(?<!\r)\n", b"\r\n", text)
        if self._after_return and text.startswith(b"\n"):
            converted = converted[1:]
        self._after_return = text.endswith(b"\r")
        return binary + converted


class OutputLog:
    """The last megabyte of what the board has printed; `total` counts all of it."""

    def __init__(self) -> None:
        self.total = 0
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """Append output."""
        self.total += len(data)
        self._kept += data
        del self._kept[:-_LOG_BYTES]

    def since(self, position: int) -> bytes:
        """Return what came after the first `position` bytes, as far as it is still kept."""
        first_kept = self.total - len(self._kept)
        return bytes(self._kept[max(0, position - first_kept) :])

    def find(self, text: bytes, since: int) -> int | None:
        """Return the position after the first `text` that begins at or after position `since`; None
        if it is not there.
        """
        start = max(since, self.total - len(self._kept))
        place = self.since(since).find(text)
        return None if place < 0 else start + place + len(text)

    def last_error(self) -> str:
        """Return the last line that ends a traceback, else the last line of all."""
        lines = bytes(self._kept).decode(errors="replace").split("\r\n")
        errors = [line for line in lines if re.match(r"\w+(Error|Exception|Interrupt)\b", line)]
        return (errors or [line for line in lines if line.strip()] or ["no output"])[-1]
