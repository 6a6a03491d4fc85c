"""Where every command begins: heeds Ctrl-C, SIGTERM and SIGHUP before anything is loaded that takes
time, and until the end.

Nothing is imported here at the top but what Python has loaded anyway, or soon has.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

INTERRUPTED = 130
_SAID = b"securemqtt: interrupted\n"
# Windows, where the tools do not run but say so, has not all of them.
_NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
# Those that are heeded now: what was ignored from the start, as nohup has it, stays so.
_heeded: list[int] = []


def main() -> int:
    """Run what `securemqtt` was called with; return the exit status."""
    return run()


def run(command: str | None = None, scripts: Path | None = None) -> int:
    """Run a command with the arguments of this process, as `cli.main` does; return the exit
    status.
    """
    load()
    try:
        from securemqtt_tools.cli import main

        return main(command=command, scripts=scripts)
    except KeyboardInterrupt:  # where nobody else has heeded it
        return interrupted()
    finally:
        _heed(signal.SIG_DFL)  # Python itself would end in a traceback


def load() -> None:
    """End at once when told to, from now on: nothing is at stake while modules are loaded.

    An exception would not do, since Python drops one that strikes while it cleans up.
    """
    _heeded[:] = [one for one in _NUMBERS if signal.getsignal(one) is not signal.SIG_IGN]
    _heed(_end)


def loaded() -> None:
    """Raise KeyboardInterrupt when told to end, from now on. No-op without `load`."""
    _heed(signal.default_int_handler)


@contextmanager
def put_off(notice: str) -> Iterator[Callable[[], None]]:
    """Have what tidies up at the end of the block come to its own end: once the function that is
    yielded was called, each Ctrl-C is answered with `notice`, and KeyboardInterrupt is raised only
    after the block. What is done then must be bounded by itself. No-op without `load`.
    """
    held = struck = False

    def hold() -> None:
        nonlocal held
        held = True

    def strike(number: int, frame: FrameType | None) -> None:
        nonlocal struck
        if not held:
            raise KeyboardInterrupt
        struck = True
        _say(f"securemqtt: {notice}\n".encode())

    _heed(strike)
    try:
        yield hold
    finally:
        loaded()
    if struck:
        raise KeyboardInterrupt


def interrupted() -> int:
    """Say that the command was told to end, where anybody still listens; return the exit status."""
    _say(_SAID)
    return INTERRUPTED


def _say(line: bytes) -> None:
    if sys.stderr is not None:  # else the number 2 may be another file's by now
        with suppress(OSError):
            os.write(2, line)


def _heed(handler: object) -> None:
    for number in _heeded:
        signal.signal(number, handler)  # type: ignore[arg-type]


def _end(number: int, frame: FrameType | None) -> None:
    try:
        interrupted()
    finally:
        os._exit(INTERRUPTED)
