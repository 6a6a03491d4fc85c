"""Find the data that comes with the tools: board profiles and the firmware's application files.

In a checkout they are `boards/` and `firmware/` at the top, and `tests/contract/scenarios/`; an
installation carries the same folders as the packages `securemqtt_tools.boards`, `….firmware` and
`….scenarios`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


def boards_directory() -> Path:
    """Return the directory of the board profiles."""
    return _find("boards", "simulated.toml")


def firmware_directory() -> Path:
    """Return the directory of boot.py and main.py, the application that is put on a board."""
    return _find("firmware", "main.py")


def scenarios_directory() -> Path:
    """Return the directory of the contract's scenarios, which `selftest` runs on a board."""
    installed = _PACKAGE / "scenarios"
    return installed if installed.exists() else _CHECKOUT / "tests" / "contract" / "scenarios"


def checkout_cache() -> Path | None:
    """Return the directory in which a checkout keeps downloads (`make clean` removes it), None in
    an installation.
    """
    return _CHECKOUT / ".build" / "cache" if in_checkout() else None


def tools_remedy() -> str:
    """Return what to do where a package of the tools is missing."""
    if in_checkout():
        return "run `make setup` in the project's directory"
    return "pip install 'securemqtt[tools]'"


def in_checkout() -> bool:
    """Return True in a checkout of the project, False in an installation."""
    return (_CHECKOUT / "pyproject.toml").exists()


def _find(name: str, witness: str) -> Path:
    installed = _PACKAGE / name
    return installed if (installed / witness).exists() else _CHECKOUT / name
