"""A simulated board from Python: started in a process of its own, ended with the `with` block or
with this process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import securemqtt_tools
from securemqtt_tools.cli import FatalError

from .control import ControlClient
from .flash import FlashStats

_END_S = 10.0
_LAST_WORDS_S = 2.0
_POLL_S = 0.02


class SimulatedBoard:
    """A simulated board with its power on; a context manager.

    Args:
        image: file with the flash's content, kept; None: an empty flash that goes with the board.
        profile: the kind of board to pose as ("simulated", "pico_w", "esp32", …).
        ssid, wifi_password: the one network there is; by default any name and password will do.
        hosts: names that the board resolves to the addresses given here.
        own_prompt: use the simulator's prompt, as with a MicroPython older than 1.27, which has no
            raw REPL.

    Every method raises FatalError when the simulator cannot start or has ended, with the reason.
    """

    patience_s = 30.0
    """How long a start, a line of output or the end of the power is waited for."""

    def __init__(
        self,
        image: Path | str | None = None,
        profile: str = "simulated",
        *,
        ssid: str | None = None,
        wifi_password: str | None = None,
        hosts: Mapping[str, str] | None = None,
        own_prompt: bool = False,
    ) -> None:
        self._image = image
        self._profile = profile
        self._ssid = ssid
        self._wifi_password = wifi_password
        self._hosts = dict(hosts or {})
        self._own_prompt = own_prompt
        self._directory: Path | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> SimulatedBoard:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the simulator and wait for its port."""
        self._directory = Path(tempfile.mkdtemp(prefix="simboard-"))
        with self._path("errors").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "securemqtt_tools.simboard", *self._arguments()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": _python_path()},
            )
        self._tell_password()
        if self._process.stdout is None or not self._process.stdout.readline():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORDS_S)
            reason = self._complaint()
            self.stop()
            raise FatalError(reason)

    def stop(self) -> None:
        """End the simulator and all that belongs to it; a flash image of the caller's stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.communicate(timeout=_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    @property
    def image(self) -> Path:
        """File with the flash's content."""
        return self._path("flash.img") if self._image is None else Path(self._image)

    @property
    def port(self) -> str:
        """Path of the serial port now, such as "/dev/pts/3"; a power cut changes it. While the
        power is off, `link`.

        mpremote reads faster from a path that it can see to be a pseudo-terminal, but waits for
        ever there for a board that says nothing; give it `link` where that matters.
        """
        try:
            return str(Path(self.link).readlink())
        except OSError:
            return self.link

    @property
    def link(self) -> str:
        """Path that leads to the port for the board's whole life; absent while the power is off."""
        return str(self._path("port"))

    @property
    def pid(self) -> int:
        """Process id of the simulator."""
        if self._process is None:
            raise FatalError("the simulated board is not running")
        return self._process.pid

    def errors(self) -> str:
        """Return what the simulator itself has printed to its standard error."""
        return self._path("errors").read_text()

    def position(self) -> int:
        """Return how many bytes the board has printed so far: the `since` for what comes from now
        on.
        """
        return int(self.status()["printed_bytes"])

    def console(self, since: int = 0) -> str:
        """Return what the board has printed since it started (the last megabyte), from byte `since`
        on.
        """
        return str(self._ask("console", since=since))

    def wait_for_output(self, text: str, timeout_s: float | None = None, since: int = 0) -> int:
        """Wait until the board has printed `text`; return the position after it, for the next
        call's `since`.

        Raises:
            TimeoutError: it has not within `timeout_s` (by default `patience_s`); the message has
                the end of what it has printed instead.
        """
        if timeout_s is None:
            timeout_s = self.patience_s
        deadline = time.monotonic() + timeout_s
        while True:
            position = self._ask("find", text=text, since=since)
            if position is not None:
                return int(position)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the board did not print {text!r} in {timeout_s} s, but: "
                    f"{self.console()[-2000:]}"
                )
            time.sleep(_POLL_S)

    def status(self) -> dict[str, Any]:
        """Return port, profile, image, powered, running, boots, formats, printed_bytes,
        access_point, wifi and flash, as plain values.
        """
        return dict(self._ask("status"))

    def stats(self) -> FlashStats:
        """Return what the flash has gone through since the simulator started."""
        return FlashStats(**self.status()["flash"])

    def wifi(self, on: bool) -> None:
        """Switch the access point.

        Off: connections go silent on both sides, new ones and names get nowhere.
        """
        self._ask("wifi", on=on)

    def set_hosts(self, hosts: Mapping[str, str]) -> None:
        """Give names the addresses that the board finds for them from now on."""
        self._ask("hosts", hosts=dict(hosts))

    def reset(self) -> None:
        """Reset the board as its button does.

        The port stays; far sides of its connections hear nothing.
        """
        self._restart("reset")

    def soft_reset(self) -> None:
        """Start the interpreter again, as Ctrl-D does."""
        self._restart("soft_reset")

    def power_cut(self) -> None:
        """Take the power at once (SIGKILL).

        The port goes; the flash stays as it is at this moment.
        """
        self._ask("power_cut")
        self.wait_for_power_cut()

    def power_cut_after(self, operations: int, half: bool = False) -> None:
        """Have the power fail when the flash has done that many more erases and programs.

        The next one is then not done or, with `half`, done to its half. `power_on` boots from what
        is left.
        """
        self._ask("power_cut_after", operations=operations, half=half)

    def wait_for_power_cut(self) -> None:
        """Wait until the power is off and the interpreter gone; TimeoutError after `patience_s`."""
        self._wait(lambda status: not (status["powered"] or status["running"]), "lose its power")

    def power_on(self) -> None:
        """Give the power back; the port is there again afterwards."""
        self._restart("power_on")

    def flash_failing(self, failing: bool) -> None:
        """Have every erase and program of the flash fail with EIO, or work again."""
        self._ask("flash_failing", failing=failing)

    def _tell_password(self) -> None:
        """Give the Wi-Fi's password by standard input: every user of this computer sees a
        command's arguments.
        """
        if self._wifi_password is None or self._process is None or self._process.stdin is None:
            return
        # it has ended already: what it says is read next
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{self._wifi_password}\n")
            self._process.stdin.flush()

    def _restart(self, verb: str) -> None:
        boots = self.status()["boots"]
        self._ask(verb)
        self._wait(lambda status: status["boots"] > boots, "start")

    def _wait(self, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        deadline = time.monotonic() + self.patience_s
        while not condition(self.status()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the board did not {what} in {self.patience_s} s")
            time.sleep(_POLL_S)

    def _ask(self, verb: str, **arguments: Any) -> Any:
        try:
            return ControlClient(self._path("control")).ask(verb, **arguments)
        except FatalError:
            if self._process is None:
                raise
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORDS_S)
                raise FatalError(self._complaint()) from None
            raise

    def _complaint(self) -> str:
        """Return why the simulator has ended: what it has said last, behind any remarks."""
        status = None if self._process is None else self._process.poll()
        if status is not None and status < 0:
            return f"the simulated board was killed ({signal.Signals(-status).name})"
        said = self.errors().strip().splitlines()
        if not status or not said:
            return "the simulated board has ended"
        return f"the simulated board has ended: {said[-1].removeprefix('securemqtt: ')}"

    def _path(self, name: str) -> Path:
        if self._directory is None:
            raise FatalError("the simulated board is not running")
        return self._directory / name

    def _arguments(self) -> list[str]:
        arguments = ["--profile", self._profile, "--image", str(self.image), "--link", self.link]
        arguments += ["--control", str(self._path("control")), "--with-parent"]
        if self._ssid is not None:
            arguments.append(f"--ssid={self._ssid}")  # joined by =, since it may begin with -
        if self._wifi_password is not None:
            arguments += ["--wifi-password-file", "-"]
        for name, address in self._hosts.items():
            arguments += ["--host", f"{name}={address}"]
        return [*arguments, "--own-prompt"] if self._own_prompt else arguments


def _python_path() -> str:
    """Return a PYTHONPATH with which another process finds this package where this one did."""
    package = str(Path(securemqtt_tools.__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
