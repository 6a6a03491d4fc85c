"""The library as a board gets it: which files of `lib/securemqtt` these are.

They go to the board as they stand in the repository, compiled (compiler.py) and not rewritten.
"""

from __future__ import annotations

import re
from pathlib import Path

import securemqtt

# MicroPython cannot import a module that begins so, and every module of the library for CPython
# alone does.
# The words of the errors go with it as they are.
_DATA = "catalogue.txt"
_CPYTHON_ONLY = re.compile(r"^from __future__ import annotations$", re.MULTILINE)


def library_directory() -> Path:
    """Return the directory of the library's source: the installed package `securemqtt`."""
    return Path(securemqtt.__file__).parent


def board_sources(package: Path) -> dict[str, str]:
    """Return the files of `package` (lib/securemqtt) that a board needs, modules in packages of any
    depth and data: name relative to `/lib`, and content.
    """
    texts = {
        path.relative_to(package).as_posix(): path.read_text()
        for path in sorted([*package.rglob("*.py"), *package.glob(_DATA)])
    }
    return {
        f"securemqtt/{name}": text
        for name, text in texts.items()
        if _CPYTHON_ONLY.search(text) is None
    }
