"""Try an installation out: what a user sees first of the library and its command."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_NAMES = """\
from importlib.metadata import distributions
print(*(one.name for one in distributions()))
"""
_CLIENT = """\
from securemqtt import Client, errors
try:
    Client(colour="red")
except errors.SecureMQTTError as error:
    print(type(error).__name__, error)
"""
_NO_TOOLS = re.compile(
    r"securemqtt: the tools need a package that is not installed \(\w+\): "
    r"pip install 'securemqtt\[tools\]'\n"
)


class TrialFailed(Exception):
    """An installation does not do what it should; the message has what it said."""


def try_library_alone(environment: Path, version: str) -> None:
    """Try what `pip install securemqtt` gives, in a virtual environment without pip: the library
    with paho-mqtt, and a command that says what it lacks. Raise TrialFailed.
    """
    python = environment / "bin" / "python"
    names = set(_run(0, python, "-c", _NAMES).split())
    _expect(names == {"securemqtt", "paho-mqtt"}, f"it brings {sorted(names)}")
    said = _run(0, python, "-c", _CLIENT)
    _expect(said.startswith("UsageError ") and "colour" in said, said)
    command = environment / "bin" / "securemqtt"
    said = _run(0, command, "--version")
    _expect(said.startswith(f"securemqtt {version}\n") and "\npaho-mqtt 2." in said, said)
    said = _run(0, command, "--help")
    _expect(f"\n  {command} ca init\n" in said, f"its help has no examples: {said}")
    for arguments in (["ca", "init"], ["broker", "run"], ["provision", "--help"], ["demo"]):
        said = _run(1, command, *arguments)
        _expect(
            _NO_TOOLS.fullmatch(said) is not None, f"securemqtt {' '.join(arguments)} says: {said}"
        )


def try_tools(environment: Path, scratch: Path) -> None:
    """Try what `pip install securemqtt[tools]` gives: an authority, a broker's files, the boards'
    profiles. Raise TrialFailed.
    """
    command = environment / "bin" / "securemqtt"
    home = ("--home", scratch / "home")
    _run(0, command, "ca", "init", "--leave-keys-unencrypted", *home)
    _run(0, command, "broker", "init", "localhost", *home)
    said = _run(0, command, "provision", "--help")
    _expect("pico_w" in said, f"it knows no boards: {said}")
    out = scratch / "bundle"
    pi = ("--id", "hub", "--broker", "localhost", "--out", out)
    _run(0, command, "provision", "pi", *pi, *home)
    _expect((out / "config.json").exists(), "it made no bundle")


def _run(status: int, *command: Path | str) -> str:
    """Run a command, far from the checkout; return what it printed, on both streams."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        cwd="/",
    )
    said = " ".join(str(part) for part in command)
    _expect(done.returncode == status, f"{said} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise TrialFailed(otherwise)
