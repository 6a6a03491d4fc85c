"""What provisioning a second board of a kind takes of the host: the real command against simulated
boards, each with another program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from figures import Figure
from interpreters import figures_in
from paths import ROOT
from setting import Setting

from securemqtt_tools.simboard import SimulatedBoard
from support.interpreters.micropython import umqtt_directory

_PROGRAM = Path(__file__).with_name("programs") / "provision_counted.py"
_RUN_S = 180


def measure(setting: Setting, rounds: int = 1) -> Iterator[Figure]:
    """Yield the figures, of this checkout's tools: seconds of processor, the command's and its
    children's, and the modules that mpy-cross was started for.
    """
    seconds: dict[str, list[float]] = {"first": [], "second": []}
    compiled: dict[str, list[float]] = {"first": [], "second": []}
    for n in range(rounds):
        home = setting.directory / f"home-{n}"
        home.mkdir()
        (home / "ca").symlink_to(setting.authority.directory)
        shutil.copytree(umqtt_directory(), home / "cache" / "umqtt.simple")
        for which in seconds:
            taken_s, modules = _provision(home, f"{which}-{n}", setting.broker.port)
            seconds[which].append(taken_s)
            compiled[which].append(modules)
    for which in seconds:
        yield Figure(f"provisioning a {which} board, host's part, s", {64: seconds[which]})
        yield Figure(f"provisioning a {which} board, modules compiled", {64: compiled[which]})


def _provision(home: Path, device_id: str, port: int) -> tuple[float, float]:
    program = home / f"{device_id}.py"
    program.write_text(f"print({device_id!r})\n")
    with SimulatedBoard() as board:
        command = [sys.executable, str(_PROGRAM), "simulated", "--id", device_id]
        command += ["--broker", f"localhost:{port}", "--port", board.port, "--no-connect"]
        command += ["--main", str(program), "--home", str(home)]
        done = subprocess.run(
            command,
            # A cache of the user's own is not to help: this is the first board of a new home.
            env={**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"provision failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    seconds, modules = figures_in(done.stdout)
    return seconds, modules
