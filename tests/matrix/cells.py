"""The cells of `make test-matrix`: which versions meet, and which suites run there."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from support.debian_packages import DebianProgram

HERE_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
SUITES = ("tests/unit", "tests/contract", "tests/security")
# All that meets a Mosquitto.
BROKER_SUITES = (
    "tests/security",
    "tests/integration",
    "tests/conformance",
    "tests/brokers",
    "tests/tools/test_broker_audit.py",
    "tests/tools/test_broker_in_place.py",
    "tests/tools/test_broker_process.py",
    "tests/tools/test_broker_elsewhere.py",
    "tests/tools/test_broker_install.py",
    "tests/tools/test_broker_install_attacks.py",
    "tests/tools/test_broker_install_live.py",
)


@dataclass(frozen=True)
class Cell:
    """One combination of versions; what a field leaves open is the machine's own."""

    name: str
    # "" is this machine, else a release that is installed into a directory of its own
    debian: str = ""
    # "" is the machine's python3
    python: str = ""
    micropython: DebianProgram | None = None
    mosquitto: DebianProgram | None = None
    # Debian packages that the release is given before, beside what `make test` installs
    packages: tuple[str, ...] = ()
    # what the variables of the tests are set to there
    settings: tuple[tuple[str, str], ...] = ()
    # none: `make test`, all of it
    suites: tuple[str, ...] = ()
    # False: what fails is reported, and ends in no red
    required: bool = True


_MICROPYTHONS = (
    None,  # PyPI's, the newest
    DebianProgram("micropython", "trixie"),
    DebianProgram("micropython", "trixie", "i386"),
    DebianProgram("micropython", "sid"),
)
_MOSQUITTOS = (
    ("2.0.11", DebianProgram("mosquitto", "bookworm")),
    ("2.0.21", DebianProgram("mosquitto", "trixie")),
    ("2.1.2", DebianProgram("mosquitto", "sid")),
)
_PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def all_cells() -> list[Cell]:
    """Return the cells in the order in which they run."""
    return [
        Cell(
            "parts",
            python=HERE_PYTHON,
            micropython=DebianProgram("micropython", "trixie", "i386"),
            mosquitto=DebianProgram("mosquitto", "trixie"),
            suites=SUITES,
        ),
        *_pairs(),
        *(
            Cell(f"mosquitto{version}", python=HERE_PYTHON, mosquitto=program, suites=BROKER_SUITES)
            for version, program in _MOSQUITTOS[1:]  # `make test` runs them all with the machine's
        ),
        Cell("debian12", debian="bookworm"),
        Cell("debian13", debian="trixie"),
        *(_newer_python(version) for version in ("3.14", "3.15")),
        _own_micropython("debian13-micropython", "trixie"),
        Cell("sid", debian="sid", required=False),
        _own_micropython("sid-micropython", "sid"),
    ]


def _pairs() -> list[Cell]:
    """Return a cell for each pair of CPython and Mosquitto; over them each MicroPython meets each
    Mosquitto, too.
    """
    return [
        Cell(
            f"cpython{python}-mosquitto{version}",
            python=python,
            micropython=_MICROPYTHONS[(row + column) % len(_MICROPYTHONS)],
            mosquitto=mosquitto,
            suites=SUITES,
        )
        for column, (version, mosquitto) in enumerate(_MOSQUITTOS)
        for row, python in enumerate(_PYTHONS)
    ]


def _newer_python(version: str) -> Cell:
    """Return the cell of a CPython that only sid has, with a Mosquitto that is supported, and with
    a MicroPython of Debian: PyPI's has no wheel for 3.15.
    """
    return Cell(
        f"cpython{version}",
        debian="sid",
        python=version,
        micropython=DebianProgram("micropython", "trixie"),
        mosquitto=DebianProgram("mosquitto", "trixie"),
        packages=(f"python{version}", f"python{version}-venv"),
        suites=SUITES,
    )


def _own_micropython(name: str, release: str) -> Cell:
    """Return the cell of a release with its own MicroPython, which no board has: linked to the
    system's mbedTLS it speaks TLS 1.3 and reads PEM, and the diagnosis says less than the tests ask
    for.
    """
    return Cell(
        name,
        debian=release,
        packages=("micropython",),
        settings=(("SECUREMQTT_MICROPYTHON", "/usr/bin/micropython"),),
        required=False,
    )
