"""systemd: asked, told, and given a unit; for the machine or for the user who calls."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.service.unit import MARKS, STOP_S, Service, uses_bundle
from securemqtt_tools.sudo import caller_home

_ANSWER_S = 30
_STOPPING_S = _ANSWER_S + STOP_S
# How long a program is watched that has just been started: most mistakes show by then.
_FIRST_S = 3
_POLL_S = 0.2
# The first that takes a directory of credentials
_OLDEST = 250
_SYSTEM_UNITS = Path("/etc/systemd/system")
# Where services have their directories; those of users that systemd makes are in the second.
STATES = Path("/var/lib")
_PRIVATE = STATES / "private"
_LOG_LINES = 10
_UNIT_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


class NotRunning(FatalError):
    """There is no systemd, or none that could be asked."""


class Systemd:
    """The manager of the system's services, or that of the user's own."""

    def __init__(self, system: bool) -> None:
        self.system = system

    @property
    def units(self) -> Path:
        """The directory of the units that an administrator, or the user, has put there."""
        if self.system:
            return _SYSTEM_UNITS
        caller = caller_home()  # by sudo, whose environment is root's
        configuration = None if caller else os.environ.get("XDG_CONFIG_HOME")
        return Path(configuration or (caller or Path.home()) / ".config") / "systemd" / "user"

    @property
    def call(self) -> str:
        """How the user is to call systemctl."""
        return "sudo systemctl" if self.system else "systemctl --user"

    @property
    def journal(self) -> str:
        """How the user is to look at what a service printed; its name follows."""
        return "sudo journalctl --unit" if self.system else "journalctl --user-unit"

    def require_rights(self, command: str) -> None:
        """Raise FatalError unless this manager takes orders from who calls us."""
        if self.system and os.geteuid() != 0:
            raise FatalError(
                f"a service of the system is root's to {command}: call it as sudo "
                f"{_this_command()} service {command} …, or take --user"
            )
        if not self.system and os.geteuid() == 0 and "SUDO_USER" in os.environ:
            raise FatalError("--user is for your own services: call it without sudo")

    def require_running(self) -> None:
        """Raise NotRunning unless this manager can be asked, FatalError if it is too old."""
        version = self._version()
        if version < _OLDEST:
            raise FatalError(
                f"systemd {version} is too old: it must be {_OLDEST} or later, as Raspberry Pi OS "
                "12 and Debian 12 have it"
            )
        if not Path("/run/systemd/system").is_dir():
            raise NotRunning(
                "systemd does not run on this machine (is it a container?), so no service can be "
                "installed here: look at it with `securemqtt service show`"
            )
        if not self.system:
            try:
                self._ask("show-environment")  # who cannot be reached says so here
            except FatalError as error:
                raise NotRunning(str(error)) from error

    def _version(self) -> int:
        try:
            said = self._systemctl(["--version"]).stdout
        except FileNotFoundError as error:
            raise NotRunning(
                "there is no systemd on this machine: a service needs a Linux that has it, such "
                "as Raspberry Pi OS"
            ) from error
        found = re.match(r"systemd (\d+)", said)
        if found is None:
            raise FatalError(f"systemctl does not say its version, but {said[:60]!r}")
        return int(found[1])

    def unit_path(self, name: str) -> Path:
        """Return where a unit of ours is, or would be. Raise FatalError for what is no name."""
        if not _UNIT_NAME.fullmatch(name):
            raise FatalError(f"{name!r} is no name of a service that securemqtt has installed")
        return self.units / f"{name}.service"

    def conflicts(self, service: Service) -> Iterator[str]:
        """Yield what a service cannot be installed beside: somebody else's with its name, or that
        has its directory, another of ours with its bundle. Where systemd does not run, that is
        what the files say.
        """
        path = self.unit_path(service.name)
        taken = (path.exists() or path.is_symlink()) and not is_ours(path)
        there = self._loaded_from(service.name)
        if taken or (there and Path(there) != path):
            yield (
                f"there is a service {service.name} already, which securemqtt has not made "
                f"({there or path}): choose another name with --name"
            )
        state = STATES / service.name
        if self.system and not is_ours(path) and _is_taken(state):
            yield (
                f"{state}, which would be the service's directory, is something else's: choose "
                "another name with --name"
            )
        for other, command in _with_bundle(service.bundle):
            if other != path:
                yield (
                    f"the service {other.stem} ({other}) has the bundle {service.bundle} already, "
                    "and two with one certificate would throw each other out again and again: "
                    "give this one a bundle of its own (--bundle DIR), or take the other away: "
                    f"{command}"
                )

    def _loaded_from(self, name: str) -> str:
        """Return the unit file that systemd knows a service by; empty if there is none."""
        try:
            self.require_running()
        except FatalError:
            return ""
        return self.properties(name).get("FragmentPath", "")

    def require_ours(self, name: str) -> Path:
        """Return the path of a unit that we have written. Raise FatalError if there is none."""
        path = self.unit_path(name)
        if not path.exists():
            known = sorted(one.stem for one in self.units.glob("*.service") if is_ours(one))
            where = "the system's services" if self.system else "your own services"
            raise FatalError(
                f"securemqtt has installed no {name} among {where}"
                + (f": it has {', '.join(known)}" if known else "")
            )
        if not is_ours(path):
            raise FatalError(f"{path} was not written by securemqtt: it is left alone")
        return path

    def start(self, name: str) -> None:
        """Have the service start now and at each boot, anew if it runs. Raise FatalError."""
        self._ask("daemon-reload")
        self._ask("enable", f"{name}.service")
        self._ask("reset-failed", f"{name}.service", required=False)
        self._ask("restart", f"{name}.service", hint=f"{self.journal} {name} has the reason")

    def check_running(self, name: str) -> None:
        """Watch a service that was started for a moment. Raise FatalError if it ends at once."""
        end = time.monotonic() + _FIRST_S
        while time.monotonic() < end:
            known = self.properties(name)
            if known.get("ActiveState") != "active" or known.get("NRestarts", "0") != "0":
                raise FatalError(
                    f"{name} is installed, and its program has ended at once: what it said is in "
                    f"`{self.journal} {name}`"
                )
            time.sleep(_POLL_S)

    def stop(self, name: str) -> None:
        """Stop the service, and have it start no more. Raise FatalError."""
        self._ask("disable", "--now", f"{name}.service")

    def forget(self, name: str) -> None:
        """Take note that a unit's file is gone."""
        self._ask("daemon-reload")
        self._ask("reset-failed", f"{name}.service", required=False)

    def properties(self, name: str) -> dict[str, str]:
        """Return what the manager knows of a service."""
        wanted = (
            "LoadState,ActiveState,SubState,MainPID,NRestarts,Result,FragmentPath,UnitFileState"
        )
        said = self._ask("show", f"--property={wanted}", f"{name}.service")
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def log(self, name: str) -> str:
        """Return the last lines of what a service has printed; systemd's own are among them."""
        unit = "--unit" if self.system else "--user-unit"
        lines = f"--lines={_LOG_LINES}"
        done = self._run(["journalctl", "--no-pager", "--quiet", lines, f"{unit}={name}.service"])
        return done.stdout.rstrip()

    def lingers(self) -> bool:
        """Return True if services run while nobody is logged in."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        return self.system or Path("/var/lib/systemd/linger", user).exists()

    def _ask(self, *words: str, required: bool = True, hint: str = "") -> str:
        done = self._systemctl([*([] if self.system else ["--user"]), *words])
        if done.returncode and required:
            said = (done.stderr or done.stdout).strip().splitlines()
            why = hint or "; ".join(said[:2]) or f"status {done.returncode}"
            raise FatalError(f"systemctl {' '.join(words[:1])} failed: {why}")
        return done.stdout

    def _systemctl(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return self._run(["systemctl", *words])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_STOPPING_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FatalError(f"{command[0]} has not answered for {_STOPPING_S} s") from error


def is_ours(path: Path) -> bool:
    """Return True for a unit that `service install`, or `broker install`, has written."""
    try:
        with path.open(encoding="utf-8", errors="replace") as unit:
            return unit.readline().rstrip("\n") in MARKS
    except OSError:
        return False


def _is_taken(state: Path) -> bool:
    """Return True if a directory is not one that an earlier service of ours has left: systemd would
    give all that is in it to the service's user.
    """
    if state == _PRIVATE:
        return True
    try:
        if not state.exists() or _PRIVATE in state.resolve().parents:
            return False
        return not state.is_dir() or (any(state.iterdir()) and not (state / "bundle").is_dir())
    except PermissionError:  # only root looks at all of them, and only root installs
        return False


def _with_bundle(bundle: Path) -> Iterator[tuple[Path, str]]:
    """Yield the units of ours that have a bundle, the machine's and the user's own, and what
    removes each.
    """
    for system in (True, False):
        for unit in sorted(Systemd(system).units.glob("*.service")):
            if is_ours(unit) and uses_bundle(unit.read_text(errors="replace"), bundle):
                yield unit, f"securemqtt service remove {unit.stem}{'' if system else ' --user'}"


def _this_command() -> str:
    beside = Path(sys.executable).with_name("securemqtt")
    return str(beside) if beside.exists() else f"{sys.executable} {sys.argv[0]}"
