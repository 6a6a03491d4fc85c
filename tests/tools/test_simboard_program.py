"""The simulator as a program: its command line, its errors, and that everything ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import securemqtt_tools
from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.profiles import load_profile
from securemqtt_tools.resources import boards_directory
from securemqtt_tools.simboard import SimulatedBoard, interpreter
from securemqtt_tools.simboard.board import Board, BoardOptions
from support.boards.simboard import (
    Line,
    mpremote,
    require_libfaketime,
    require_micropython,
    run_mpremote,
)
from support.network.net import wait_until
from support.processes import children
from support.speed import seconds

SCRIPT = Path(securemqtt_tools.__file__).parent.parent / "simboard.py"


@pytest.fixture(autouse=True)
def _own_runtime_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the sockets of `simboard run` apart from those of a user's boards; the path must be a
    short one.
    """
    require_micropython()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `python tools/simboard.py run` as a user does."""
    arguments = [
        "run",
        "--image",
        str(tmp_path / "flash.img"),
        "--link",
        str(tmp_path / "port"),
        "--profile",
        "pico_w",
    ]
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def first_line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def is_gone(pid: int) -> bool:
    """Return True if a process has ended; a dead one that nobody has waited for counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_prints_its_port_first_and_works_there(program: subprocess.Popen[str], tmp_path: Path):
    port = first_line(program)
    assert port == str(tmp_path / "port")
    assert run_mpremote(port, "eval", "6*7").stdout.strip() == "42"


def test_is_steered_from_another_terminal(
    program: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
):
    port = first_line(program)
    assert main(["wifi", "off"], command="simboard") == 0
    assert main(["status"], command="simboard") == 0
    status = capsys.readouterr().out
    assert "pico_w" in status
    assert "access_point       False" in status
    assert main(["power-cut"], command="simboard") == 0
    wait_until(lambda: not Path(port).exists(), what="the port's disappearance")
    assert main(["power-on"], command="simboard") == 0
    wait_until(lambda: Path(port).exists(), what="the port's return")
    assert main(["reset"], command="simboard") == 0
    assert main(["wifi", "on"], command="simboard") == 0
    assert main(["stop"], command="simboard") == 0
    assert program.wait(seconds(20)) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(
    program: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
):
    first_line(program)
    interpreters = wait_until(lambda: children(program.pid), what="the interpreter")
    program.send_signal(number)
    _, complaint = program.communicate(timeout=seconds(20))
    assert (program.returncode, complaint) == (0, "")
    wait_until(lambda: all(is_gone(pid) for pid in interpreters), what="the interpreter's end")
    assert [path.name for path in tmp_path.iterdir()] == ["flash.img"]


def test_its_interpreter_has_ended_when_it_has(tmp_path: Path):
    async def live() -> set[int]:
        others = set(children(os.getpid()))
        options = BoardOptions(load_profile("pico_w"), tmp_path / "flash.img")
        board = Board(options, tmp_path / "counters")
        life = asyncio.create_task(board.run())
        while not board.boots:
            await asyncio.sleep(0)
        assert set(children(os.getpid())) - others
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await life
        return set(children(os.getpid())) - others

    assert asyncio.run(asyncio.wait_for(live(), seconds(20))) == set()


def test_nothing_is_left_when_it_is_killed(program: subprocess.Popen[str]):
    first_line(program)
    interpreters = wait_until(lambda: children(program.pid), what="the interpreter")
    program.kill()
    program.wait()
    wait_until(lambda: all(is_gone(pid) for pid in interpreters), what="the interpreter's end")


def test_it_ends_with_the_program_that_started_it():
    starter = (
        "import sys; from securemqtt_tools.simboard import SimulatedBoard\n"
        "board = SimulatedBoard(); board.start(); print(board.pid, board.image, flush=True); "
        "sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", starter],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        pid, image = first_line(process).split()
        simulator = int(pid)
        interpreters = wait_until(lambda: children(simulator), what="the interpreter")
        process.kill()
    wait_until(
        lambda: all(is_gone(pid) for pid in [simulator, *interpreters]), what="the end of all"
    )
    assert not Path(image).parent.exists()


def test_it_leaves_no_shared_memory_behind():
    require_libfaketime()
    with SimulatedBoard() as board:
        board.wait_for_output(">>> ")
        interpreter = children(board.pid)[0]
        board.reset()
        board.wait_for_output(">>> ", since=board.wait_for_output(">>> "))
    assert not [
        path for path in Path("/dev/shm").glob("*faketime*") if str(interpreter) in path.name
    ]


def test_an_image_belongs_to_one_board_at_a_time(tmp_path: Path):
    with (
        SimulatedBoard(image=tmp_path / "flash.img"),
        pytest.raises(FatalError, match="another simulated board is running on it"),
    ):
        SimulatedBoard(image=tmp_path / "flash.img").start()


def test_an_image_of_another_size_is_refused(tmp_path: Path):
    (tmp_path / "flash.img").write_bytes(bytes(4096))
    with pytest.raises(FatalError, match="the image has 4096 bytes and the board's flash 868352"):
        SimulatedBoard(image=tmp_path / "flash.img").start()
    assert (tmp_path / "flash.img").read_bytes() == bytes(4096)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--profile", "pico_x"], "no board profile 'pico_x'"),
        (["run", "--profile", "raspberry_pi"], "Raspberry Pi is not a board that can be simulated"),
        (["run", "--image", "/proc/version"], "choose another --image"),
        (["run", "--link", __file__], "is in the way of the link to the port"),
        (["reset"], "no simulated board answers"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    arguments = [*arguments, "--home", str(tmp_path)] if arguments[0] == "run" else arguments
    assert main(arguments, command="simboard") == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.startswith("securemqtt: ")
    assert error.count("\n") == 1


def test_a_second_board_needs_a_name_of_its_own(
    program: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first_line(program)
    assert main(["run", "--image", str(tmp_path / "other.img")], command="simboard") == 1
    assert "choose another --name" in capsys.readouterr().err


def test_the_control_socket_is_its_owner_s_alone(program: subprocess.Popen[str]):
    first_line(program)
    for path in Path(os.environ["XDG_RUNTIME_DIR"]).glob("securemqtt-*"):
        assert path.stat().st_mode & 0o077 == 0
        assert all(inner.stat().st_mode & 0o077 == 0 for inner in path.iterdir())


def test_help_has_examples(capsys: pytest.CaptureFixture[str]):
    for action in (
        [],
        ["run"],
        ["wifi"],
        ["reset"],
        ["power-cut"],
        ["power-on"],
        ["status"],
        ["stop"],
    ):
        with pytest.raises(SystemExit) as ended:
            main([*action, "--help"], command="simboard")
        assert ended.value.code == 0
        assert "mpremote connect" in capsys.readouterr().out


def test_without_micropython_it_says_where_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(interpreter.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(FatalError, match="apt-get install micropython"):
        interpreter.find_micropython()
    # and that before anything is made for the board, or printed as its port
    assert main(["run", "--home", str(tmp_path)], command="simboard") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "apt-get install micropython" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_board_that_cannot_boot_says_why_and_ends(tmp_path: Path):
    profile = tmp_path / "small.toml"
    text = (boards_directory() / "simulated.toml").read_text()
    profile.write_text(text.replace("filesystem_bytes = 868352", "filesystem_bytes = 4096"))
    with SimulatedBoard(profile=str(profile)) as board:
        wait_until(lambda: board.errors(), what="the report")
        assert board.errors() == "securemqtt: MicroPython does not start: OSError: 28\n"
        with pytest.raises(FatalError, match="MicroPython does not start: OSError: 28"):
            board.status()


def test_the_board_outlives_many_programs_at_its_port():
    with SimulatedBoard() as board:
        for number in range(20):
            with Line(board) as line:
                line.enter_raw_repl()
                assert line.execute(f"print({number})") == f"{number}\r\n".encode()
        assert mpremote(board, "eval", "'alive'") == "alive\n"
