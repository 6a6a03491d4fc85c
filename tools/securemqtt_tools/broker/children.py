"""Child processes that do not outlive this one, whatever ends it."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Linux sends the death signal when the *thread* that started the child ends, so one thread that lives as long as this
# process starts them all: a broker may then be restarted from a short-lived thread.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="broker-launcher")


def spawn(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, open_files: int = 0) -> subprocess.Popen[bytes]:
    """Start a program whose output is appended to `log` and that the kernel kills when this process ends.

    `open_files` raises its limit of open files, as far as the system lets it. Raises OSError.
    """
    setpriv = shutil.which("setpriv")  # in util-linux, which Debian always has; without it nothing guards the child
    guarded = [setpriv, "--pdeathsig", "KILL", "--", *arguments] if setpriv else list(arguments)
    with log.open("ab") as output:
        process = _LAUNCHER.submit(
            subprocess.Popen[bytes],
            guarded,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # a Ctrl-C at the terminal is for us: we then stop the child in order
        ).result()
    if open_files:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        wanted = open_files if hard == resource.RLIM_INFINITY else min(open_files, hard)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (wanted, hard))
    return process
