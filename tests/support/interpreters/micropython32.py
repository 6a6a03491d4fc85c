"""MicroPython on 32 bits, as boards are: Debian 13's i386 package.

`python -m support.interpreters.micropython32` prints the path of a program that starts it; see
support/debian_packages.py for where it comes from. Needs a kernel that runs 32-bit programs, as
those of the distributions do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.debian_packages import CACHE, DebianProgram, UnavailableError
from support.requirements import unavailable
from support.speed import seconds

MICROPYTHON32 = DebianProgram("micropython", "trixie", "i386")


def find_micropython32(cache: Path = CACHE) -> Path:
    """Return the path of a program that is MicroPython on 32 bits; downloaded into `cache` if it is
    not there yet.

    Raise UnavailableError where that cannot be done.
    """
    return MICROPYTHON32.find(cache, _check_word_size)


def require_micropython32() -> Path:
    """Return the path of MicroPython on 32 bits; fail in CI, skip elsewhere, where it cannot be
    had.
    """
    try:
        return find_micropython32()
    except UnavailableError as error:
        unavailable(str(error))


def _check_word_size(program: Path) -> None:
    command = [str(program), "-c", "import sys; print(sys.maxsize)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(20), check=False)
    if done.returncode:
        raise UnavailableError(
            f"{MICROPYTHON32} ends with {done.returncode}: {done.stderr.strip()}; does this kernel "
            f"run 32-bit programs (CONFIG_IA32_EMULATION)?"
        )
    if int(done.stdout) != 2**31 - 1:
        raise UnavailableError(f"{MICROPYTHON32} has sys.maxsize {done.stdout.strip()}")


def main() -> int:
    """Print the path; one line says why there is none."""
    try:
        print(find_micropython32())
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
