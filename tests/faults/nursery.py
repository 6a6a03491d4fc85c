"""Starts mortal.py again and again, each time in a new process, and kills it: `python nursery.py
[MICROPYTHON]`.

Each line on standard input is one life, as JSON: its length in seconds and the arguments. What that
life prints follows, then `gone STATUS`. Under CPython it is a fork of this process, which has
imported everything: so a hundred lives take seconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import mortal

PROGRAM = Path(__file__).with_name("mortal.py")


def live(life_s: float, arguments: list[str], interpreter: list[str]) -> int:
    """Start one life and kill it when its time has come; return its exit status."""
    if interpreter:
        with subprocess.Popen([*interpreter, str(PROGRAM), *arguments]) as process:
            end(process.pid, life_s)
        return process.returncode
    child = os.fork()
    if child == 0:
        mortal.main(*arguments)
        os._exit(0)
    end(child, life_s)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end(process: int, life_s: float) -> None:
    """Kill a process after `life_s`, unless it ends by itself."""
    descriptor = os.pidfd_open(process)
    if not select.select([descriptor], [], [], life_s)[0]:
        os.kill(process, signal.SIGKILL)
    os.close(descriptor)


for line in sys.stdin:
    status = live(*json.loads(line), sys.argv[1:])
    os.write(1, f"gone {status}\n".encode())
