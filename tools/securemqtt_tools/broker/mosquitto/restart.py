"""How a system's Mosquitto is restarted, or told to read its files anew."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from securemqtt_tools.cli import FatalError

_SBIN = ":/usr/sbin:/sbin"


def systemd_runs() -> bool:
    """Return True if systemd starts and ends what runs here."""
    return Path("/run/systemd/system").is_dir()


def restart_command() -> list[str]:
    """Return the command that restarts this system's Mosquitto.

    Raise FatalError when it is not known.
    """
    command = _command("restart")
    if command is None:
        raise FatalError(
            "it is not known how this system restarts Mosquitto: say it with --restart COMMAND"
        )
    return command


def reload_command() -> list[str] | None:
    """Return the command that has this system's Mosquitto read its files anew (SIGHUP), None if it
    is not known.
    """
    return _command("reload")


def _command(what: str) -> list[str] | None:
    if systemd_runs():
        return ["systemctl", what, "mosquitto"]
    # Not on a plain user's path.
    service = shutil.which("service", path=os.environ.get("PATH", os.defpath) + _SBIN)
    return [service, "mosquitto", what] if service else None


def run(command: list[str]) -> None:
    """Run a command that restarts or reloads Mosquitto, 90 s at most.

    Raise FatalError with its last words.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FatalError(f"{shlex.join(command)} failed: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or [
            f"exit status {done.returncode}"
        ]
        raise FatalError(f"{shlex.join(command)} failed: {words[-1]}")
