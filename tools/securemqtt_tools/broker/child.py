"""A broker's process and its log."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import securemqtt_tools
from securemqtt_tools.broker.children import last_words, spawn
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained

ANSWER_S = 30.0
_POLL_S = 0.01
_LOG_BYTES = 10 * 1024 * 1024


class Child:
    """Such a process, if it runs. An object belongs to one thread at a time."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.begin = 0
        """Where its words begin in the log."""
        self._log: os.stat_result | None = None

    @property
    def running(self) -> bool:
        """Return True if the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, if it is running."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def writes_its_log(self) -> bool:
        """Whether what it says comes to the log: else somebody has put another file there."""
        try:
            return self._log is not None and os.path.samestat(self.log.stat(), self._log)
        except OSError:
            return False

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        open_files: int,
    ) -> None:
        """Start it in a directory; what it says comes to the end of its log. Raise FatalError."""
        if self.log_size() > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.begin = self.log_size()
        with explained(f"start {Path(arguments[0]).name}"):
            self._process = spawn(arguments, self.log, environment, open_files, directory=directory)
            self._log = self.log.stat()

    def listens(self, word: re.Pattern[bytes], timeout_s: float) -> bool:
        """Wait until its log has the word that says so; return False if it has ended instead. Raise
        FatalError after `timeout_s`: it is killed then.
        """
        deadline = time.monotonic() + timeout_s
        while not word.search(self.words()):
            if not self.running:
                return False
            if time.monotonic() > deadline:
                self.kill()
                raise FatalError(
                    f"the broker did not start within {timeout_s:.0f} s: see {self.log}"
                )
            time.sleep(_POLL_S)
        return True

    def stop(self, timeout_s: float) -> None:
        """End it in order. After `timeout_s` it is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def read_anew(self, word: re.Pattern[bytes], again_s: float | None = None) -> int:
        """Have it read its files (SIGHUP), told so again each `again_s`; return where its log has
        the word that says so. Raise FatalError when it does not say so in 30 s.
        """
        offset = self.log_size()
        begun = time.monotonic()
        next_s = 0.0
        while (found := word.search(self.words(offset))) is None:
            passed_s = time.monotonic() - begun
            if self._process is not None and passed_s >= next_s:
                self._process.send_signal(signal.SIGHUP)
                next_s = math.inf if again_s is None else next_s + again_s
            if not self.running or passed_s > ANSWER_S:
                raise FatalError(
                    f"the broker did not reload: {last_words(self.words())} (see {self.log})"
                )
            time.sleep(_POLL_S)
        return offset + found.end()

    def words(self, offset: int | None = None) -> bytes:
        """Return its log since its start, or from an offset on. Raise FatalError."""
        with explained(f"read {self.log}"), self.log.open("rb") as file:
            file.seek(self.begin if offset is None else offset)
            return file.read()

    def log_size(self) -> int:
        """Return where the log ends by now."""
        return self.log.stat().st_size if self.log.exists() else 0


def own_environment() -> dict[str, str]:
    """Return this process's environment, in which a child finds this package also where it is not
    installed but run from a checkout.
    """
    tools = str(Path(securemqtt_tools.__file__).parents[1])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{tools}{os.pathsep}{path}" if path else tools}
