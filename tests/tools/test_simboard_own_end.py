"""The simulated board without privileges, and what is said when it ends by itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from securemqtt_tools.cli import FatalError
from securemqtt_tools.demo.devices import BoardDevice
from securemqtt_tools.pki import Authority
from securemqtt_tools.profiles import load_profile
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.bundle import Settings
from securemqtt_tools.provision.steps import Steps
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import require_micropython
from support.requirements import missing
from support.speed import seconds

ROOT = Path(__file__).resolve().parents[2]
_PLAIN = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
_DOOR = """
import asyncio, socket
from securemqtt_tools.simboard.door import Door

async def main():
    def visit(door, connection):
        connection[1].close()
        return asyncio.sleep(0)
    async def reach():
        try:
            way = asyncio.open_connection("127.0.0.1", door.port)
            (await asyncio.wait_for(way, 1))[1].close()
            return "let in"
        except asyncio.TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
    door = Door(("127.0.0.1", 9), visit)
    print(await reach())
    for _ in range(3):
        await door.go_silent()
        print(await reach())
        await door.let_in()
        print(await reach())
    await asyncio.gather(door.let_in(), door.go_silent(), door.let_in(), door.go_silent())
    print(await reach())
    door.close()
    print(await reach())
asyncio.run(main())
"""


_BOARD = """
from securemqtt_tools.cli import FatalError
from securemqtt_tools.simboard import SimulatedBoard
try:
    with SimulatedBoard():
        print("a board")
except FatalError as error:
    print(error)
"""
_COMMAND = """
import sys
from securemqtt_tools.cli import main
sys.exit(main(["run", "--home", sys.argv[1]], command="simboard"))
"""


def _run(before: list[str], *program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", *program],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tools'}:{ROOT / 'lib'}"},
    )


def test_a_door_is_silent_for_a_plain_user() -> None:
    as_root = os.geteuid() == 0
    if as_root and shutil.which("setpriv") is None:
        missing("setpriv", "util-linux")
    done = _run(_PLAIN if as_root else [], _DOOR)
    assert done.stderr == ""
    answers = ["refused", *["silent", "let in"] * 3, "silent", "refused"]
    assert done.stdout.splitlines() == answers


_EXHAUSTED_DOOR = """
import asyncio, os, resource, socket
from securemqtt_tools.simboard.door import Door

class Counting(Door):
    count = 0
    def _accept(self):
        self.count += 1
        super()._accept()

async def main():
    visited = asyncio.Event()
    async def visit(door, connection):
        connection[1].close()
        visited.set()
    door = Counting(("127.0.0.1", 9), visit)
    await door.let_in()
    board = socket.create_connection(("127.0.0.1", door.port))
    free = os.dup(0)
    os.close(free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    while not door.count:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)  # one turn of the loop
    print(door.count)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    await visited.wait()
    print("let in")
    door.close()
asyncio.run(main())
"""


def test_a_door_without_a_descriptor_left_waits_for_one() -> None:
    done = _run([], _EXHAUSTED_DOOR)
    assert (done.stdout, done.stderr) == ("1\nlet in\n", "")


@pytest.fixture
def without_terminals() -> list[str]:
    """What comes before a command for which this machine has no pseudo-terminals."""
    require_micropython()
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    before += ['mount --bind /dev/null /dev/ptmx && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*before, "true"], check=False).returncode:
        missing("unshare", "util-linux, and a kernel that lets users have namespaces")
    return before


def test_a_machine_without_pseudo_terminals(without_terminals: list[str], tmp_path: Path) -> None:
    done = _run(without_terminals, _BOARD)
    assert done.stderr == ""
    assert done.stdout.startswith("the simulated board has ended: ")
    assert "no pseudo-terminal" in done.stdout and done.stdout.count("\n") == 1
    done = _run(without_terminals, _COMMAND, str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("securemqtt: this machine gives the simulated")
    assert "Traceback" not in done.stderr


def test_a_simulator_that_was_killed_is_named() -> None:
    require_micropython()
    with SimulatedBoard() as board:
        os.kill(board.pid, signal.SIGKILL)
        with pytest.raises(FatalError, match=r"^the simulated board was killed \(SIGKILL\)$"):
            board.status()


def test_the_demo_does_not_take_its_own_board_for_one_that_was_unplugged(
    authority: Authority, tmp_path: Path
) -> None:
    require_micropython()
    with SimulatedBoard() as board:
        order = Order(
            profile=load_profile("simulated"),
            settings=Settings("demo-killed", "localhost", 8883),
            authority=authority,
            cache=tmp_path,
            port=board.port,
        )
        device = BoardDevice(board, order)
        os.kill(board.pid, signal.SIGKILL)
        with pytest.raises(FatalError, match="the simulated board was killed"):
            device.provision(Steps(Console(quiet=True)))
