"""`securemqtt broker run`: the broker in the foreground, one per directory, told what to do by
signals.
"""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from securemqtt_tools.broker.process import BrokerProcess
from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.pki.files import OWNER_ONLY, explained

_LOCK = "run.lock"
_LOOK_S = 0.5
DAY_S = 24 * 3600.0
# For so long at most a certificate that has expired stays in by resuming its TLS session.
_TLS_SESSIONS_S = 3600.0
_RESTARTED = "Restarted: every device connects anew, and who was revoked does not."


def serve(
    broker: BrokerProcess,
    started: Callable[[], None],
    say: Callable[[str], None],
    upkeep: Callable[[], bool],
    every_s: float = DAY_S,
) -> None:
    """Run a broker until SIGTERM or SIGINT; SIGHUP reloads it. For the main thread. Once an hour
    it forgets the TLS sessions that could be resumed.

    `started` is called once it listens; `say` gets a line about each reload; `upkeep` is called
    every `every_s` and says whether there is something to reload. Raise FatalError when it runs in
    this directory already, does not start, or ends by itself.
    """
    with _only_one(broker.directory) as lock, _received_signals() as received, broker:
        started()
        due_s = time.monotonic() + every_s
        forget_s = time.monotonic() + _TLS_SESSIONS_S
        while True:
            try:
                number = received.get(timeout=min(_LOOK_S, every_s))
            except queue.Empty:
                _check_in_place(broker.directory, lock)
                if not broker.running:
                    raise FatalError(f"the broker has ended by itself: see {broker.log}") from None
                if broker.keep_out():
                    say(_RESTARTED)
                if time.monotonic() > forget_s:
                    forget_s += _TLS_SESSIONS_S
                    _forget(broker, say)
                if time.monotonic() < due_s:
                    continue
                due_s += every_s
                if not upkeep():
                    continue
            else:
                if number != signal.SIGHUP:
                    return
            say(_reload(broker))


def _forget(broker: BrokerProcess, say: Callable[[str], None]) -> None:
    try:
        broker.end_tls_sessions()
    except FatalError as error:
        if not broker.running:
            raise
        say(f"TLS sessions may be resumed for an hour more: {error}")


def _reload(broker: BrokerProcess) -> str:
    try:
        restarted = broker.reload()
    except FatalError as error:
        if not broker.running:
            raise
        return as_called(
            f"Not reloaded: {error}. Who was revoked may still be connected: run securemqtt broker "
            f"reload again"
        )
    return _RESTARTED if restarted else "Reloaded."


@contextmanager
def _received_signals() -> Iterator[queue.SimpleQueue[int]]:
    """Collect the signals that arrive, instead of what they would do; a SimpleQueue may be filled
    by a handler.
    """
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {
        number: signal.signal(number, lambda number, _: received.put(number)) for number in numbers
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell_to_reload(directory: Path) -> int | None:
    """Have the broker that runs in the foreground for this directory reload; return its process id,
    None if there is none.
    """
    pid = running(directory)
    if pid is not None:
        with explained(f"tell the broker to reload, process {pid}"):
            os.kill(pid, signal.SIGHUP)
    return pid


def running(directory: Path) -> int | None:
    """Return the process id of the broker that runs in the foreground for this directory, None if
    there is none.
    """
    path = directory / _LOCK
    if not path.exists():
        return None
    with explained(f"read {path}"), path.open("r+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(lock.fileno()) or int(lock.read() or b"0")
        else:
            return None  # nobody holds it
    return pid or None


def _holder(descriptor: int) -> int | None:
    """Return the process that holds the lock of a file, if the kernel tells: what the file says may
    be from a backup, and the number be another process's by now.
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError):  # not Linux
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "FLOCK" in words and device in words:
                return int(words[words.index(device) - 1]) or None
    return None


def _check_in_place(directory: Path, lock: int) -> None:
    """Raise FatalError where the directory is another one by now: nobody could tell the broker of a
    revocation any more, and it would start again with what is in the other one.
    """
    path = directory / _LOCK
    with suppress(OSError):
        if os.path.samestat(path.stat(), os.fstat(lock)):
            return
    raise FatalError(
        f"{directory} was moved away or replaced while the broker ran, so it has ended: where that "
        f"came from a backup, have securemqtt ca recover look what it does not know, then start "
        f"securemqtt broker run again"
    )


@contextmanager
def _only_one(directory: Path) -> Iterator[int]:
    """Hold the lock of a directory; yield its descriptor. Raise FatalError where another has it."""
    path = directory / _LOCK
    with explained(f"write {path}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FatalError(
                f"the broker of {directory} runs already: securemqtt broker reload has it take up "
                "what was changed"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield descriptor
    finally:
        os.close(descriptor)
