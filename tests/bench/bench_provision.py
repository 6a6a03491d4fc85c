"""What provisioning a second board of a kind takes: the real command against simulated boards, each
with another program, and mpremote's `cp -r` of the same files onto a third.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure
from interpreters import figures_in
from paths import ROOT
from setting import Setting

from securemqtt_tools.simboard import SimulatedBoard
from support.interpreters.micropython import umqtt_directory

_PROGRAM = Path(__file__).with_name("programs") / "provision_counted.py"
_MPREMOTE = Path(sys.executable).with_name("mpremote")
_RUN_S = 180


def measure(setting: Setting, rounds: int = 1) -> Iterator[Figure]:
    """Yield the figures, of this checkout's tools: seconds of processor, the command's and its
    children's; the modules that mpy-cross was started for; seconds by the clock, step by step, and
    all of them in those that mpremote takes.
    """
    seconds: dict[str, list[float]] = {"first": [], "second": []}
    compiled: dict[str, list[float]] = {"first": [], "second": []}
    steps: dict[str, list[float]] = {}
    against: list[float] = []
    for n in range(rounds):
        home = setting.directory / f"home-{n}"
        home.mkdir()
        (home / "ca").symlink_to(setting.authority.directory)
        shutil.copytree(umqtt_directory(), home / "cache" / "umqtt.simple")
        for which in seconds:
            with SimulatedBoard() as board:
                begun = time.monotonic()
                lines = _provision(home, f"{which}-{n}", setting.broker.port, board.port)
                whole_s = time.monotonic() - begun
                if which == "second":
                    _mpremote(board.port, ":/.", f"{home}/files")
            taken_s, modules = figures_in("\n".join(text for _, text in lines))
            seconds[which].append(taken_s)
            compiled[which].append(modules)
        for title, taken_s in _steps(lines):
            steps.setdefault(title, []).append(taken_s)
        with SimulatedBoard() as board:
            begun = time.monotonic()
            _mpremote(board.port, f"{home}/files/.", ":/")
            against.append(whole_s / (time.monotonic() - begun))
    for which in seconds:
        yield Figure(f"provisioning a {which} board, host's part, s", {64: seconds[which]})
        yield Figure(f"provisioning a {which} board, modules compiled", {64: compiled[which]})
    for title, all_s in steps.items():
        yield Figure(f"provisioning a second board, {title}, s", {64: all_s})
    yield Figure("provisioning a second board, against mpremote cp", {64: against})


def _provision(home: Path, device_id: str, broker_port: int, port: str) -> list[tuple[float, str]]:
    """Run the command; return what it printed, each line with when it came, in seconds."""
    program = home / f"{device_id}.py"
    program.write_text(f"print({device_id!r})\n")
    command = [sys.executable, str(_PROGRAM), "simulated", "--id", device_id]
    command += ["--broker", f"localhost:{broker_port}", "--port", port, "--no-connect"]
    command += ["--main", str(program), "--home", str(home)]
    # A cache of the user's own is not to help: this is the first board of a new home.
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    begun = time.monotonic()
    with subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        if running.stdout is None:
            raise RuntimeError("provision has no output")
        lines = [(time.monotonic() - begun, line.rstrip()) for line in running.stdout]
    if running.returncode:
        raise RuntimeError(f"provision failed: {[text for _, text in lines]}")
    return lines


def _steps(lines: list[tuple[float, str]]) -> Iterator[tuple[str, float]]:
    """Yield each step's title and what it took."""
    before_s = 0.0
    for at_s, text in lines:
        mark, _, rest = text.partition(" ")
        if mark in ("✓", "ok"):
            yield rest.partition(":")[0].lower(), at_s - before_s
            before_s = at_s


def _mpremote(port: str, source: str, destination: str) -> None:
    if destination != ":/":
        Path(destination).mkdir()
    command = [str(_MPREMOTE), "connect", port, "cp", "-r", source, destination]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
    if done.returncode:
        raise RuntimeError(f"mpremote failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
