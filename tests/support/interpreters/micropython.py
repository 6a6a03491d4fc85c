"""The real MicroPython interpreter, with the library and umqtt.simple on its path."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.library import board_sources
from securemqtt_tools.provision.board.umqtt import umqtt_sources
from support.requirements import IN_CI, require_program
from support.speed import seconds

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".build" / "cache"


def umqtt_directory() -> Path:
    """Return the directory that holds umqtt.simple, fetched the first time; without it fail in CI,
    skip elsewhere.
    """
    try:
        umqtt_sources(CACHE)
    except FatalError as error:
        if IN_CI:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    return CACHE / "umqtt.simple"


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
def mpy_version() -> int:
    """Return the version of `.mpy` that MicroPython loads."""
    asked = subprocess.run(
        [*micropython_command(), "-c", "import sys; print(sys.implementation._mpy & 255)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds(20),
    )
    return int(asked.stdout)


@functools.cache
def compiled_library(directory: Path) -> Path:
    """Compile the library as provisioning does; return the directory to import it from."""
    sources = board_sources(ROOT / "lib" / "securemqtt")
    for name, content in Compiler(CACHE).compile(sources, mpy_version()).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def board_environment(directory: Path, *directories: Path) -> dict[str, str]:
    """Return the environment in which MicroPython finds the library as a board has it, compiled
    below `directory`; else as `micropython_environment`.
    """
    environment = micropython_environment(*directories)
    environment["MICROPYPATH"] = environment["MICROPYPATH"].replace(
        str(ROOT / "lib"), str(compiled_library(directory / "library"))
    )
    return environment
