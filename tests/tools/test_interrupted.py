"""Ctrl-C, SIGTERM and SIGHUP while a command is being loaded, and when it has begun: the real
programs, told to end at many moments.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.network.net import wait_until
from support.setup_environment import ROOT
from support.speed import seconds

_INSTALLED = str(Path(sys.executable).with_name("securemqtt"))
_SCRIPT = str(ROOT / "tools" / "ca.py")
_RUN_S = seconds(60)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# From the moment on when signals are heeded, which Linux tells, up to when the command waits.
_MOMENTS = 12


def _commands(file: Path) -> dict[str, list[str]]:
    """Return commands that, once they are loaded, wait for somebody to write to a FIFO."""
    return {
        "pub": [_INSTALLED, "pub", "~/a", "--file", str(file)],
        "ca": [sys.executable, _SCRIPT, "init", "--passphrase-file", str(file)],
    }


def _page_faults(pid: int) -> int:
    """Return how many pages a process has touched so far: how far it has come, on any machine."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def _heeds(pid: int, number: signal.Signals) -> bool:
    """Return True if a process has a handler for a signal."""
    found = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def _is_open(fifo: Path) -> bool:
    """Open a FIFO to write to it, for as long as this process lives; return False if nobody is
    there to read.
    """
    try:
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True


def _interrupt(
    command: list[str],
    number: signal.Signals,
    is_time: Callable[[int, int], bool],
    late: list[int],
) -> int:
    """Run a command, and send it a signal when `is_time` says so, given its process id and how
    many pages it had touched when it began to heed signals. Return how many it has touched since.

    A signal between CPython's last look for one and the system call that then waits is seen only
    after that: for this there is no remedy but a second one, and that moment is noted in `late`.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: _heeds(process.pid, signal.SIGTERM))
        begun = _page_faults(process.pid)
        wait_until(lambda: is_time(process.pid, begun))
        touched = _page_faults(process.pid) - begun
        process.send_signal(number)
        try:
            said = process.communicate(timeout=_RUN_S / 4)
        except subprocess.TimeoutExpired:
            late.append(touched)
            process.send_signal(number)
            said = process.communicate(timeout=_RUN_S)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, *said) == (130, "", "securemqtt: interrupted\n"), touched
    return touched


@pytest.mark.parametrize("name", ["pub", "ca"])
def test_it_is_one_line_at_any_moment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECUREMQTT_HOME", str(tmp_path / "home"))
    file = tmp_path / "fifo"
    os.mkfifo(file, 0o600)  # else `ca` refuses it, and ends by itself
    command = _commands(file)[name]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would be inherited
    late: list[int] = []
    try:
        in_all = _interrupt(command, signal.SIGTERM, lambda pid, begun: _is_open(file), late)
        for moment in range(_MOMENTS):
            wanted = in_all * moment // _MOMENTS
            _interrupt(
                command,
                _SIGNALS[moment % len(_SIGNALS)],
                # It may touch fewer than before, once its modules are compiled.
                lambda pid, begun, wanted=wanted: (
                    _page_faults(pid) >= begun + wanted or _is_open(file)
                ),
                late,
            )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(late) <= 1, f"{late} of {in_all} pages"


@pytest.mark.parametrize("closed", [False, True], ids=["pipe", "closed"])
def test_the_status_is_the_same_where_nobody_hears_of_it(closed: bool, tmp_path: Path) -> None:
    file = tmp_path / "fifo"
    os.mkfifo(file, 0o600)  # else `ca` refuses it, and ends by itself
    command = _commands(file)["ca"]
    if closed:
        command = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    reader, writer = os.pipe()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=writer,
        env={**os.environ, "SECUREMQTT_HOME": str(tmp_path / "home")},
    )
    os.close(writer)
    try:
        wait_until(lambda: _is_open(file))
        os.close(reader)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=_RUN_S)[0]
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, said) == (130, b"")


def test_what_nohup_ignores_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "fifo"
    os.mkfifo(file, 0o600)  # else `ca` refuses it, and ends by itself
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            _commands(file)["ca"], stderr=subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)}
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        wait_until(lambda: _heeds(process.pid, signal.SIGTERM))
        assert not _heeds(process.pid, signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_RUN_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
