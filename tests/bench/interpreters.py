"""MicroPython of both word sizes, with the compiled library and umqtt.simple on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from library import Library

from support.debian_packages import UnavailableError
from support.interpreters.micropython32 import find_micropython32
from support.requirements import IN_CI, find_program

_PROGRAMS = Path(__file__).with_name("programs")
_RUN_S = 360
_FACTS = (
    "import sys; print('figure', 64 if sys.maxsize > 1 << 32 else 32, "
    "sys.implementation._mpy & 255)"
)


@dataclass(frozen=True)
class MicroPython:
    """An interpreter."""

    bits: int
    program: str
    mpy_version: int
    library: Library

    def figure(
        self, program: str, *arguments: object, heap_kb: int = 0, rom: bool = False
    ) -> float:
        """Run a program of programs/ and return its figure; see `figures`."""
        return self.figures(program, *arguments, heap_kb=heap_kb, rom=rom)[0]

    def figures(
        self, program: str, *arguments: object, heap_kb: int = 0, rom: bool = False
    ) -> list[float]:
        """Run a program of programs/ and return its figures. Raise RuntimeError if it fails.

        `heap_kb`: the heap it gets, in place of the interpreter's own; `rom`: the library is not on
        the path but in an image, which the program gets as its last argument.
        """
        done = self._run(program, arguments, heap_kb, rom)
        if done.returncode:
            raise RuntimeError(
                f"{program} failed on {self.bits} bits: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return figures_in(done.stdout)

    def works(self, program: str, *arguments: object, heap_kb: int) -> bool:
        """Run a program with a heap of this size; return True if it came to its end."""
        return not self._run(program, arguments, heap_kb, rom=False).returncode

    def _run(
        self, program: str, arguments: tuple[object, ...], heap_kb: int, rom: bool
    ) -> subprocess.CompletedProcess[str]:
        version = self.mpy_version
        path = [".frozen", self.library.umqtt(version)]
        last = [self.library.romfs(version)] if rom else []
        compiled = self.library.compiled(version)
        if not rom:
            # By a name as short as on a board, whose `/lib` it is: a path stays in the heap.
            path.append(Path(compiled.name))
        command = [
            self.program,
            *(["-X", f"heapsize={heap_kb}k"] if heap_kb else []),
            str(_PROGRAMS / program),
            *map(str, [*arguments, *last]),
        ]
        return subprocess.run(
            command,
            cwd=compiled.parent,
            env={"MICROPYPATH": ":".join(map(str, path)), "PATH": os.defpath},
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )


def micropythons(library: Library) -> list[MicroPython]:
    """Return the interpreters that there are, 64 bits first.

    One that is missing is said on standard error; in CI it is an error.
    """
    found = []
    for bits in (64, 32):
        try:
            program = _find(bits)
        except UnavailableError as error:
            if IN_CI:
                raise
            print(f"bench: {bits} bits are left out: {error}", file=sys.stderr)
            continue
        output = subprocess.run(
            [program, "-c", _FACTS], capture_output=True, text=True, timeout=_RUN_S, check=True
        ).stdout
        found_bits, version = map(int, figures_in(output))
        if found_bits != bits:
            raise SystemExit(f"bench: {program} has {found_bits} bits in place of {bits}")
        found.append(MicroPython(bits, program, version, library))
    return found


def figures_in(output: str) -> list[float]:
    """Return the numbers in the last line that begins with `figure`."""
    lines = [line for line in output.splitlines() if line.startswith("figure ")]
    return [float(word) for word in lines[-1].split()[1:]]


def _find(bits: int) -> str:
    if bits == 32:
        return str(find_micropython32())
    program = find_program("micropython")
    if program is None:
        raise UnavailableError(
            "MicroPython is not installed: pip install 'securemqtt[sim]', or apt-get install "
            "micropython"
        )
    return program
