"""How a message names a command: as the user has it, and which one was meant by a mistyped word."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

_PROGRAM = "securemqtt"
_LIKENESS = 0.6


class Naming:
    """Names commands as they are called here: `securemqtt broker …` where that is installed, or
    `python tools/broker.py …` in a clone of the project.
    """

    def __init__(self, commands: Iterable[str]) -> None:
        words = "|".join(map(re.escape, commands))
        self._command = re.compile(
            rf'(?<![\w./"-])(?:"\$\(which {_PROGRAM}\)"|{_PROGRAM}) (?P<command>{words})\b'
        )
        self.scripts: Path | None = None  # the clone's tools/, if that is what was called

    def as_called(self, text: str) -> str:
        """Return text in which each `securemqtt COMMAND` is what a user of this one types."""
        if self.scripts is None and not _elsewhere():
            return text
        return self._command.sub(lambda found: self.called(found["command"]), text)

    def called(self, command: str) -> str:
        """Return how a command is called."""
        if self.scripts is None:
            return f"{_elsewhere() or _PROGRAM} {command}"
        if command == "selftest":
            return f"{self.called('provision')} {command}"
        script = self.scripts / f"{command}.py"
        if not script.exists():
            # some have no script of their own; what `make setup` has installed does
            return f"{_shown(self.scripts.parent / '.venv' / 'bin' / _PROGRAM)} {command}"
        return f"{'python' if shutil.which('python') else 'python3'} {_shown(script)}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return what was probably meant by a word that is not known; None if nothing is like it."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=_LIKENESS)
    return names[found[0]] if found else None


def _elsewhere() -> str | None:
    """Return the path by which `securemqtt` was called, if it is not found by its name alone."""
    if Path(sys.argv[0]).name != _PROGRAM or shutil.which(_PROGRAM):
        return None
    return shlex.quote(sys.argv[0])


def _shown(path: Path) -> str:
    """Return a path as one would type it here."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
