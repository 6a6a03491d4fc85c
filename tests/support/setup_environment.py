"""Make a virtual environment: `python3 setup_environment.py DIR` for the project and what its
lock has, which `make` works in, `python3 setup_environment.py DIR LOCK` for what another lock has.

Needs nothing but the standard library.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"


def main(directory: Path, lock: Path | None = None) -> int:
    """Create or update the environment: with the project and what its lock has, or with what `lock`
    has alone. One line per step; a line that says what to install where something is missing.
    """
    if sys.version_info < (3, 10):  # noqa: UP036  (this file is what an older Python runs into)
        return fail(
            f"python3 is {sys.version.split()[0]}; securemqtt needs 3.10 or later: make "
            f"PYTHON=python3.11 …"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return fail("python3 cannot make virtual environments here: apt-get install python3-venv")
    python = directory / "bin" / "python"
    if not works(python):
        # One that was cut off while it was made, or whose Python was upgraded, is made anew.
        step(f"making the virtual environment {directory}")
        command = [sys.executable, "-m", "venv", "--clear", str(directory)]
        if subprocess.run(command, check=False).returncode:
            return fail(
                f"the virtual environment could not be made: apt-get install python3-venv, remove "
                f"{directory}, and look at the disk's free space"
            )
    step("installing the locked packages (a minute or two the first time)")
    started = time.monotonic()
    try:
        pip(python, *locked(python, lock or LOCK))
        if lock is None:
            # setuptools is one of the locked packages: nothing else is fetched to build with.
            pip(python, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    except PipError as error:
        return fail(f"pip failed: {error}")
    if lock is None:
        # Beside the editable install, whose finder comes after a folder named `securemqtt` that
        # lies beside a user's script.
        for packages in directory.glob("lib/python3*/site-packages"):
            (packages / "securemqtt-checkout.pth").write_text(f"{ROOT / 'lib'}\n{ROOT / 'tools'}\n")
    step(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def works(python: Path) -> bool:
    """Return True if there is an interpreter, and pip with it."""
    try:
        done = subprocess.run(
            [str(python), "-m", "pip", "--version"], check=False, capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0


def locked(python: Path, lock: Path) -> list[str]:
    """Return pip's arguments to install what is in `lock`: with hashes, so that nothing is
    installed but the very files of PyPI that were locked.

    piwheels, which Raspberry Pi OS adds to the index, builds wheels of its own, with other hashes:
    there the versions count alone, except in CI, which installs nothing unchecked.
    """
    if not has_piwheels(python) or os.environ.get("CI") == "true":
        return ["--require-hashes", "--requirement", str(lock)]
    step("pip takes wheels from piwheels, whose hashes are not PyPI's: only versions are checked")
    versions = python.parent.parent / "versions.txt"
    versions.write_text("\n".join(versions_only(lock.read_text())) + "\n")
    return ["--requirement", str(versions)]


def versions_only(lock: str) -> list[str]:
    """Return the lines of a lock file without hashes and comments: `name==version ; marker`."""
    lines = [line.strip() for line in lock.splitlines()]
    return [line.removesuffix("\\").rstrip() for line in lines if line[:1] not in ("", "#", "-")]


def has_piwheels(python: Path) -> bool:
    """Return True if piwheels is among the indexes that pip looks at."""
    command = [str(python), "-m", "pip", "config", "list"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    hosts = [urlsplit(word.strip("'\"")).hostname or "" for word in re.split(r"[\s=]", done.stdout)]
    return any(host == "piwheels.org" or host.endswith(".piwheels.org") for host in hosts)


class PipError(Exception):
    """pip has failed; the message is its own last word."""


def pip(python: Path, *arguments: str) -> None:
    """Run `pip install`. Raise PipError with what matters of what it says."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        named = re.findall(r"^ +(\S+) from \S+.*:$", done.stderr, re.MULTILINE)
        raise PipError(
            f"{', '.join(named)} is not what was locked: it was changed on the way, or comes from "
            f"an index that builds files of its own"
        )
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    said = lines[-1] if lines else done.stderr.strip()[-300:]
    raise PipError(f"{said}; is the package index reachable?")


def step(text: str) -> None:
    print(f"setup: {text}", flush=True)


def fail(text: str) -> int:
    print(f"setup: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
