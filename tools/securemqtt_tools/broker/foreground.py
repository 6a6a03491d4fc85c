"""`securemqtt broker run`: the broker in the foreground, one per directory, told what to do by
signals.
"""

from __future__ import annotations

import os
import queue
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from securemqtt_tools.broker.config import CRL
from securemqtt_tools.broker.lock import LOCK, holding, is_held, running
from securemqtt_tools.broker.process import BrokerProcess
from securemqtt_tools.broker.revocations import incomplete
from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.pki.files import explained
from securemqtt_tools.pki.succession import KEPT

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
    has_news: Callable[[], bool],
    every_s: float = DAY_S,
) -> None:
    """Run a broker until SIGTERM or SIGINT; SIGHUP reloads it. For the main thread. Once an hour
    it forgets the TLS sessions that could be resumed.

    `started` is called once it listens; `say` gets a line about each reload; `upkeep` is called
    every `every_s`, `has_news` twice a second, and both say whether there is something to reload.
    Raise FatalError when it runs in this directory already, does not start, or ends by itself.
    """
    with (
        holding(broker.directory) as lock,
        _received_signals() as received,
        broker,
        _looking(broker, say) as look,
    ):
        started()
        due_s = time.monotonic() + every_s
        forget_s = time.monotonic() + _TLS_SESSIONS_S
        while True:
            number = _next(received, min(_LOOK_S, every_s))
            if number not in (None, signal.SIGHUP):
                return
            _check_in_place(broker, lock)
            look()
            if number is None:
                if not broker.running:
                    raise FatalError(f"the broker has ended by itself: see {broker.log}")
                _keep_out(broker, say)
                if time.monotonic() > forget_s:
                    forget_s += _TLS_SESSIONS_S
                    _forget(broker, say)
                if not has_news():
                    if time.monotonic() < due_s:
                        continue
                    due_s += every_s
                    if not upkeep():
                        continue
            say(_reload(broker))


class Look:
    """Notices that a CRL that goes back, from a backup, has taken the place of what was read."""

    def __init__(self, broker: BrokerProcess, say: Callable[[str], None]) -> None:
        self._broker = broker
        self._say = say
        self._seen: object = ()  # when it was looked at last; no state of the files
        self._good: object = ()  # and nothing was left to do
        self._said = ""

    def __call__(self) -> None:
        """Look whether the files are others; keep what was read, and say once if they are older:
        once they stay as they are, since they may just be written. Reads them only then.
        """
        now = self._state()
        if now == self._good and self._broker.is_kept:
            return
        problem = ""
        try:
            self._broker.keep_newest()
        except FatalError as error:
            problem = as_called(f"Nothing is taken up: {error}")
        is_same, self._seen = now == self._seen, now
        self._good = now if is_same or not problem else ()
        if problem and not is_same:
            return
        if problem and problem != self._said:
            self._say(problem)
        elif self._said and not problem:
            self._say(as_called("What there is may be taken up again: securemqtt broker reload."))
        self._said = problem

    def _state(self) -> list[tuple[Path, int, int, int]]:
        found = []
        for path in (self._broker.directory / CRL, *self._broker.directory.glob(KEPT)):
            with suppress(OSError):
                status = path.stat()
                found.append((path, status.st_ino, status.st_size, status.st_mtime_ns))
        return sorted(found)


@contextmanager
def _looking(broker: BrokerProcess, say: Callable[[str], None]) -> Iterator[Look]:
    """Keep what was read once more at the end, however that comes: a backup may just have been
    copied there.
    """
    try:
        yield Look(broker, say)
    finally:
        try:
            broker.keep_newest()
        except FatalError as error:
            if not broker.is_kept:
                say(as_called(str(error)))


def _keep_out(broker: BrokerProcess, say: Callable[[str], None]) -> None:
    try:
        if broker.keep_out():
            say(_RESTARTED)
    except FatalError as error:
        if not broker.running:
            raise
        say(as_called(f"Who was revoked just now may come in once more: {error}"))


def _next(received: queue.SimpleQueue[int], wait_s: float) -> int | None:
    try:
        return received.get(timeout=wait_s)
    except queue.Empty:
        return None


def _forget(broker: BrokerProcess, say: Callable[[str], None]) -> None:
    try:
        broker.end_tls_sessions()
    except FatalError as error:
        if not broker.running:
            raise
        say(as_called(f"TLS sessions may be resumed for an hour more: {error}"))


def _reload(broker: BrokerProcess) -> str:
    try:
        restarted = broker.reload()
    except FatalError as error:
        if not broker.running:
            raise
        return as_called(
            f"Not reloaded: {error}. Until a reload succeeds (securemqtt broker reload), who was "
            f"revoked may still be connected"
        )
    lack = ""
    with suppress(FatalError):
        lack = incomplete(broker.directory) if broker.websockets_port is not None else ""
    if lack:
        return as_called(f"{'Restarted' if restarted else 'Reloaded'}, but {lack}")
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
    if pid is None and is_held(directory):
        raise FatalError(
            f"a broker runs for {directory} where it cannot be seen from here, in a container "
            f"perhaps: run securemqtt broker reload there"
        )
    if pid is not None:
        with explained(f"tell the broker to reload, process {pid}"):
            os.kill(pid, signal.SIGHUP)
    return pid


def _check_in_place(broker: BrokerProcess, lock: int) -> None:
    """Raise FatalError where the directory is another one by now: nobody could tell the broker of a
    revocation any more, and it would start again with what is in the other one.
    """
    directory = broker.directory
    try:
        if os.path.samestat((directory / LOCK).stat(), os.fstat(lock)):
            return
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:  # it cannot be looked at, for the moment perhaps
        return
    before = _place_of(lock)
    kept = broker.kept
    waits = f" What waits for devices that are away is in {kept} there." if kept else ""
    if directory.is_dir():
        try:
            broker.keep_newest()
        except FatalError as error:
            raise FatalError(
                f"{directory} was replaced while the broker ran, so it has ended; the one of "
                f"before is {before}."
                f"{waits} {error}"
            ) from error
        raise FatalError(
            f"{directory} was replaced while the broker ran, or its {LOCK} removed, so it has "
            f"ended; the one of before is {before}.{waits} Start it again: securemqtt broker run"
        )
    raise FatalError(
        f"{directory} was moved away while the broker ran, so it has ended; it is {before} now."
        f"{waits} Start it there; or, where a backup takes its place, run securemqtt ca recover "
        f"{shlex.quote(before)} first, which knows who was revoked since"
    )


def _place_of(lock: int) -> str:
    """Return where the directory of the lock is by now, as far as the system tells."""
    try:
        place = Path(f"/proc/self/fd/{lock}").readlink()
    except OSError:  # no Linux
        return "the directory that it had"
    return str(place.parent)
