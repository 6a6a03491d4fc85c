"""The library as a board gets it: which files of `lib/securemqtt` these are.

They go to the board as they stand in the repository, compiled (compiler.py) and not rewritten.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from securemqtt_tools.cli import INSTALL_TOOLS, FatalError

# MicroPython cannot import a module that begins so, and every module of the library for CPython
# alone does.
# The words of the errors go with it as they are.
_DATA = "catalogue.txt"
_CPYTHON_ONLY = re.compile(r"^from __future__ import annotations$", re.MULTILINE)


def library_directory() -> Path:
    """Return the directory of the library's source: the installed package `securemqtt`."""
    spec = find_spec("securemqtt")
    if spec is None or not spec.submodule_search_locations:
        raise FatalError(f"the package securemqtt is not installed: {INSTALL_TOOLS}")
    return Path(spec.submodule_search_locations[0])


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
