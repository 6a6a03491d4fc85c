"""Programs that run as processes of their own beside the demonstration: the Pi's, and the device's
where there is no board.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import securemqtt
from securemqtt_tools.broker.children import spawn
from securemqtt_tools.demo.failure import Failed

_END_S = 10.0
# How the library logs and prints an error: what happened, the raw code, the likely cause.
_DIAGNOSIS = re.compile(
    r"^(?:securemqtt warning: )?(.+?)(?: \[[^\]]*\])?\. Likely cause: ", re.MULTILINE
)


def diagnosis(text: str) -> str | None:
    """Return what happened by the first error of the library's in a program's output; None if there
    is none.
    """
    found = _DIAGNOSIS.search(text)
    return found[1] if found else None


class Program:
    """A CPython program that uses the library with a bundle of its own; its output goes to a
    file.
    """

    def __init__(self, title: str, script: Path, bundle: Path, log: Path, *arguments: str) -> None:
        self._title = title
        self._command = [sys.executable, "-u", str(script), *arguments]
        self._bundle = bundle
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Return True if the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it. It ends with this process at the latest."""
        library = str(Path(securemqtt.__file__).parents[1])
        path = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": path, "SECUREMQTT_BUNDLE": str(self._bundle)}
        self._process = spawn(self._command, self._log, environment)

    def stop(self) -> None:
        """End it, as a power cut would end a Pi: nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_S)
            self._process = None

    def text(self) -> str:
        """Return all that it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def check(self) -> None:
        """Raise Failed when it is not running, with its last words."""
        if self._process is None:
            raise Failed(f"{self._title} has not been started")
        if not self.running:
            lines = self.text().strip().splitlines() or ["it printed nothing"]
            raise Failed(
                f"{self._title} has ended with status {self._process.returncode}; its last line: "
                f"{lines[-1]}"
            )
