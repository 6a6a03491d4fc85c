"""Make the virtual environment that `make` works in: `python3 setup_environment.py DIR`.

Needs nothing but the standard library.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(directory: Path) -> int:
    """Create or update the environment; one line per step; a line that says what to install where
    something is missing.
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
    if not python.exists():
        step(f"making the virtual environment {directory}")
        if subprocess.run([sys.executable, "-m", "venv", str(directory)], check=False).returncode:
            return fail(
                "the virtual environment could not be made: apt-get install python3-venv, and "
                "look at the disk's free space"
            )
    step("installing the pinned packages (a minute or two the first time)")
    started = time.monotonic()
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    done = subprocess.run(
        [*command, "--editable", f"{ROOT}[tools,sim,test]"],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return fail(
            "pip failed: "
            + (lines[-1] if lines else done.stderr.strip()[-300:])
            + "; is the package index reachable?"
        )
    # Beside the editable install, whose finder comes after a folder named `securemqtt` that lies
    # beside a user's script.
    for packages in directory.glob("lib/python3*/site-packages"):
        (packages / "securemqtt-checkout.pth").write_text(f"{ROOT / 'lib'}\n{ROOT / 'tools'}\n")
    step(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def step(text: str) -> None:
    print(f"setup: {text}", flush=True)


def fail(text: str) -> int:
    print(f"setup: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
