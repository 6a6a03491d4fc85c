"""What the tests need beside Python packages: a failure in CI, a loud skip that names the package
elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

DEBIAN_PACKAGES = {
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "tshark": "tshark",
    "openssl": "openssl",
    "micropython": "micropython",
}


# Which MicroPython the tests run, and which Mosquitto they and the tools: the path of another one,
# such as `python -m support.debian_packages mosquitto trixie` prints.
MICROPYTHON_VARIABLE = "SECUREMQTT_MICROPYTHON"
MOSQUITTO_VARIABLE = "SECUREMQTT_MOSQUITTO"
_ANSWER_S = 60
_CHOSEN = {"micropython": MICROPYTHON_VARIABLE, "mosquitto": MOSQUITTO_VARIABLE}


def find_program(name: str) -> str | None:
    """Return the path of a program: beside this interpreter first, then on the PATH and in
    /usr/sbin (Debian's mosquitto); what SECUREMQTT_MICROPYTHON or SECUREMQTT_MOSQUITTO names goes
    first.

    Raise FileNotFoundError if that is no program; an empty name is none, since what was to find one
    has failed.
    """
    variable = _CHOSEN.get(name, "")
    chosen = os.environ.get(variable)
    if chosen is not None:
        if shutil.which(chosen) is None:
            shown = f"{variable}={chosen}" if chosen else f"{variable} is set to nothing, and"
            raise FileNotFoundError(f"{shown} names no program: correct it, or unset it")
        return chosen
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    return shutil.which(
        name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    )


def heeding_modes() -> list[str]:
    """Return what is put before a command so that permissions of files count for it, as they do
    for anybody but root: who gives that up here, and keeps the rest.
    """
    if os.geteuid() != 0:
        return []
    given_up = "-dac_override,-dac_read_search"
    return [require_program("setpriv"), f"--bounding-set={given_up}", f"--inh-caps={given_up}"]


def describe_program(name: str, *arguments: str) -> str:
    """Return which program the tests run, and how it describes itself when it is run with these
    arguments. Raise FileNotFoundError for a name that was chosen and is none.
    """
    path = find_program(name)
    if path is None:
        return "not installed"
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
        said = (done.stdout + done.stderr).strip().partition("\n")[0]
    except (OSError, subprocess.TimeoutExpired) as error:
        said = f"does not run: {error}"
    return f"{said or 'says nothing'} ({path})"


def require_program(name: str) -> str:
    """Return the path of a program that a test needs; fail in CI, skip elsewhere, when it is not
    there.
    """
    path = find_program(name)
    if path is None:
        missing(name, DEBIAN_PACKAGES.get(name, name))
    return path


def missing(name: str, package: str) -> NoReturn:
    """Say that `name` is not there, and which Debian package has it: a failure in CI, a skip
    elsewhere.
    """
    unavailable(f"{name} is not installed: apt-get install {package}")


def unavailable(message: str) -> NoReturn:
    """Say what a test needs and has not got: a failure in CI, a skip elsewhere."""
    if IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
