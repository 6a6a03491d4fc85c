"""What the tests need beside Python packages: a failure in CI, a loud skip that names the package
elsewhere.
"""

from __future__ import annotations

import os
import shutil
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


def find_program(name: str) -> str | None:
    """Return the path of a program: beside this interpreter first, then on the PATH and in
    /usr/sbin (Debian's mosquitto).
    """
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    return shutil.which(
        name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    )


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
    message = f"{name} is not installed: apt-get install {package}"
    if IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
