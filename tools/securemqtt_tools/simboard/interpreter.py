"""Find MicroPython for this machine, and start it as a board's processor: on a terminal, with a
heap, with a clock.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from securemqtt_tools.cli import FatalError

_HERE = Path(__file__).resolve().parent
LAUNCHER = _HERE / "launch.py"
ROM = _HERE / "rom"


def find_micropython() -> tuple[str, str]:
    """Find MicroPython: ("module", directory) for the package from PyPI, ("program", path) for one
    on the PATH.

    Raises:
        FatalError: there is none; the message says where to get one.
    """
    specification = importlib.util.find_spec("micropython_run")
    if specification is not None and specification.origin is not None:
        return "module", str(Path(specification.origin).parent)
    program = shutil.which("micropython")
    if program is not None:
        return "program", program
    raise FatalError(
        "the simulated board needs MicroPython for Linux: pip install 'securemqtt[sim]' (Linux on "
        "x86-64),"
        " or apt-get install micropython (Debian trixie, Raspberry Pi OS and later)"
    )


async def start_micropython(
    terminal: str, channel: int, heap_bytes: int, environment: dict[str, str]
) -> asyncio.subprocess.Process:
    """Start the interpreter with the board's boot program on `terminal`; `channel` becomes its
    descriptor 3.

    It gets nothing of this process's environment, leads a session of its own and ends with this
    process.
    """
    kind, where = find_micropython()
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(LAUNCHER),
        str(os.getpid()),
        terminal,
        str(channel),
        kind,
        where,
        "-X",
        f"heapsize={heap_bytes}",
        "-i",
        str(ROM / "start.py"),
        env={"PATH": os.defpath, "TZ": "UTC", **environment},
        pass_fds=(channel,),
        start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL,
    )
