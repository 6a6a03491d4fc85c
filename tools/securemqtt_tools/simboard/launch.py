"""Become the board's processor: the last steps in the new process before MicroPython takes over.

Arguments: parent's process id, terminal, channel's descriptor, "module" or "program", where,
MicroPython's arguments. Run as a script, on the standard library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

CHANNEL = 3
PR_SET_PDEATHSIG = 1
SAFE_INTERRUPT = signal.SIGUSR2


def main() -> int:
    parent, terminal, channel, kind, where, *arguments = sys.argv[1:]
    _die_with(int(parent))
    # Until MicroPython listens for it, Ctrl-C means nothing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(int(channel), CHANNEL)
    # a session leader's first terminal becomes its controlling terminal
    line = os.open(terminal, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(line, standard)
    os.closerange(CHANNEL + 1, max(line, int(channel)) + 1)
    if kind == "program":
        os.execv(where, [where, *arguments])  # noqa: S606  (the interpreter that the simulator found)
    _forget_shared_memory()
    sys.path.insert(0, where)
    import micropython_run

    _interrupt_safely(micropython_run.__file__)
    return int(micropython_run.run_main(["micropython", *arguments]))


def _die_with(parent: int) -> None:
    """Ask the kernel (Linux) for SIGKILL when the parent ends, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the simulator has gone")


def _forget_shared_memory() -> None:
    """Remove the names of what libfaketime shares with processes of which there will be none (see
    clock.py).
    """
    for name in (f"faketime_shm_{os.getpid()}", f"sem.faketime_sem_{os.getpid()}"):
        with contextlib.suppress(OSError):
            os.unlink(f"/dev/shm/{name}")  # noqa: PTH108, S108  (no time for pathlib's import)


def _interrupt_safely(library: str) -> None:
    """Have SAFE_INTERRUPT make a KeyboardInterrupt at the next safe moment, as a board does, not at
    once as SIGINT does.

    MicroPython's own function for that is fit to be a signal's handler. System calls are not to be
    restarted after it.
    """
    try:
        handler = ctypes.CDLL(library).mp_sched_keyboard_interrupt
    except AttributeError:
        return
    c_library = ctypes.CDLL(None)
    c_library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    c_library.signal(SAFE_INTERRUPT, ctypes.cast(handler, ctypes.c_void_p))
    c_library.siginterrupt(SAFE_INTERRUPT, 1)


if __name__ == "__main__":
    sys.exit(main())
