"""The real MicroPython interpreter, with the library and umqtt.simple on its path."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

from securemqtt_tools.board.library import board_sources, compile_library
from securemqtt_tools.board.shrink import shrink_program
from securemqtt_tools.board.umqtt import umqtt_sources
from securemqtt_tools.cli import FatalError
from support.requirements import IN_CI, require_program

ROOT = Path(__file__).resolve().parents[2]
_CACHE = ROOT / ".build" / "cache"


def umqtt_directory() -> Path:
    """Return the directory that holds umqtt.simple, fetched the first time; without it fail in CI,
    skip elsewhere.
    """
    try:
        umqtt_sources(_CACHE)
    except FatalError as error:
        if IN_CI:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    return _CACHE / "umqtt.simple"


def micropython_command(*options: str) -> list[str]:
    """Return the command that starts MicroPython, with options for the interpreter such as `-X
    heapsize=…`.
    """
    return [require_program("micropython"), *options]


def micropython_environment(*directories: Path) -> dict[str, str]:
    """Return the environment in which MicroPython finds the library, umqtt.simple and what else is
    in `directories`.
    """
    path = [".frozen", str(ROOT / "lib"), str(umqtt_directory()), *map(str, directories)]
    return {**os.environ, "MICROPYPATH": ":".join(path)}


@functools.cache
def compiled_library(directory: Path) -> Path:
    """Compile the library as provisioning does; return the directory to import it from."""
    version = subprocess.run(
        [*micropython_command(), "-c", "import sys; print(sys.implementation._mpy & 255)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    for name, content in compile_library(ROOT / "lib" / "securemqtt", int(version.stdout)).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def small_environment(directory: Path, *directories: Path) -> dict[str, str]:
    """Return the environment in which MicroPython finds the library as a board has it, compiled
    below `directory`; else as above.
    """
    environment = micropython_environment(*directories)
    environment["MICROPYPATH"] = environment["MICROPYPATH"].replace(
        str(ROOT / "lib"), str(compiled_library(directory / "library"))
    )
    return environment


@functools.cache
def small_program(program: Path, directory: Path) -> Path:
    """Write a program so that it finds things where a board's library has them, by the names that
    it gives them; return where it is then.
    """
    target = directory / program.relative_to(ROOT / "tests")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        shrink_program(board_sources(ROOT / "lib" / "securemqtt"), program.read_text())
    )
    return target
