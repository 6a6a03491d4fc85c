"""Child processes that do not outlive this one, whatever ends it."""

from __future__ import annotations

import os
import pwd
import re
import resource
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from securemqtt_tools.pki.files import OWNER_ONLY
from securemqtt_tools.waiting import result_of

# When it was, in seconds or as ISO 8601 has it.
_TIME = re.compile(r"^(\d{10}|\d{4}-\d\d-\d\dT[\d:]+): ")
_START_S = 60.0
# Linux sends the death signal when the *thread* that started the child ends, so one thread that
# lives as long as this process starts them all: a broker may then be restarted from a short-lived
# thread.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="broker-launcher")


def spawn(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    open_files: int = 0,
    user: str | None = None,
    directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program whose output is appended to `log`, which only its owner may read, and that
    the kernel kills when this process ends.

    `open_files` raises its limit of open files, as far as the system can and lets us; with `user`
    root starts it as that user, who must exist. It works in `directory`, else where this process
    does. Raise OSError.
    """
    # in util-linux, which Debian always has; without it nothing guards the child
    setpriv = shutil.which("setpriv")
    guarded = [setpriv, "--pdeathsig", "KILL", "--", *arguments] if setpriv else list(arguments)
    account = pwd.getpwnam(user) if user is not None else None
    with _appended(log) as output:
        started = _LAUNCHER.submit(
            subprocess.Popen[bytes],
            guarded,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=directory,
            # a Ctrl-C at the terminal is for us: we then stop the child in order
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=os.getgrouplist(account.pw_name, account.pw_gid) if account else None,
        )
        process = result_of(started, _START_S)
    if open_files and hasattr(resource, "prlimit"):  # Linux; elsewhere the shell's limit stays
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        wanted = open_files if hard == resource.RLIM_INFINITY else min(open_files, hard)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (wanted, hard))
    return process


def _appended(log: Path) -> BinaryIO:
    output = os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY), "ab")
    status = os.fstat(output.fileno())
    # one that an earlier version, or a wide umask, has left open
    if status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode):
        os.fchmod(output.fileno(), OWNER_ONLY)
    return output


def last_words(log: bytes) -> str:
    """Return the line that says best why a broker has ended, without the time.

    Mosquitto says `Error: ` and what was wrong, and after that where it stood in which file, or
    what OpenSSL made of it.
    """
    lines = [line.strip() for line in log.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    plain = [line for line in errors if "Error: " in line]
    return _TIME.sub("", (plain or errors or lines or ["it said nothing"])[-1])
