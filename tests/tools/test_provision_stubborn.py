"""Boards that do not let go: no wait of `provision` is without an end, and the way out is named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board import repl
from securemqtt_tools.provision.board.files import make_directories, write
from securemqtt_tools.provision.board.ports import deafness
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import Provisioner, contents
from support.boards.simboard import require_micropython
from support.speed import seconds

# As if each Ctrl-C were caught, wherever it strikes: nothing comes of it.
_SWALLOWS = "import micropython\nmicropython.kbd_intr(-1)\n"
_TALKS_ON = _SWALLOWS + "while True: print('all is well ' * 6)\n"
_SAYS_NOTHING = _SWALLOWS + "print('begun')\nwhile True: pass\n"


@pytest.fixture
def few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C tried twice only: how often changes nothing here."""
    monkeypatch.setattr(repl, "_ATTEMPTS", 2)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    """Run a simulated board whose flash is a file of the test's."""
    require_micropython()
    with SimulatedBoard(tmp_path / "flash.img") as board:
        yield board


def _start(board: SimulatedBoard, program: str) -> None:
    with Board(board.port) as there:
        write(there, "/main.py", program.encode())
        there.start_program()


@pytest.mark.usefixtures("few_attempts")
def test_a_program_that_prints_without_pause_and_swallows_ctrl_c(
    provisioner: Provisioner, board: SimulatedBoard
) -> None:
    _start(board, _TALKS_ON)
    board.wait_for_output("all is well")
    began = time.monotonic()
    outcome = provisioner.board(board, "stubborn", *provisioner.wifi)
    assert time.monotonic() - began < seconds(30)
    assert outcome.status == 1
    assert outcome.said(
        "prints, and Ctrl-C does not end it", "press the board's reset button", "wipe its flash"
    ), outcome.text
    # and the way out is one
    board.stop()
    board.image.unlink()
    board.start()
    assert contents(board) == {}


@pytest.mark.usefixtures("few_attempts")
def test_a_program_that_is_silent_and_swallows_ctrl_c(
    provisioner: Provisioner, board: SimulatedBoard
) -> None:
    _start(board, _SAYS_NOTHING)
    board.wait_for_output("begun")
    outcome = provisioner.board(board, "silent", *provisioner.wifi)
    assert outcome.status == 1
    assert outcome.said("answers as MicroPython does", "when you wipe the flash"), outcome.text


@pytest.mark.parametrize(
    ("family", "way"),
    [
        ("rp2", "hold BOOTSEL"),
        ("esp32", "esptool --port /dev/ttyUSB0 erase-flash"),
        ("simulated", "delete its image"),
        ("", "docs/provisioning.md"),
    ],
)
def test_each_family_has_its_way_to_wipe_the_flash(family: str, way: str) -> None:
    for talks in (True, False):
        assert way in str(deafness("/dev/ttyUSB0", family, talks))


def test_a_script_that_talks_without_an_end(
    board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Board(board.port) as there:
        monkeypatch.setattr(repl, "_TALK_S", 1)
        with pytest.raises(FatalError, match="talks without an end: press its reset button"):
            there.run("while True: print('again and again')", timeout_s=1)
        monkeypatch.undo()
        there.recover()
        assert there.run("print('well')").strip() == "well"


def test_a_script_that_is_followed_and_talks_without_an_end(board: SimulatedBoard) -> None:
    with Board(board.port) as there:
        lines: list[str] = []
        assert there.follow("while True: print('line')", lines.append, 1) is None
        assert set(lines) == {"line"}
        assert there.run("print('well')").strip() == "well"


def test_another_thread_of_the_board_that_prints_all_the_time(
    provisioner: Provisioner, board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repl, "SILENCE_S", 2)
    monkeypatch.setattr(repl, "_TALK_S", 2)
    monkeypatch.setattr(repl, "_RESET_S", 4)
    _start(
        board,
        "import _thread\ndef talk():\n while True: print('from the other thread')\n"
        "_thread.start_new_thread(talk, ())\n",
    )
    board.wait_for_output("from the other thread")
    began = time.monotonic()
    outcome = provisioner.board(board, "two-threads", *provisioner.wifi, "--no-connect")
    assert time.monotonic() - began < seconds(60)
    assert (outcome.status, outcome.err.count("\n")) == (1, 1), outcome.text


def test_a_thread_of_boot_py_that_prints_a_reading_now_and_then(
    provisioner: Provisioner, board: SimulatedBoard
) -> None:
    """A reading looks like an answer of ours."""
    with Board(board.port) as there:
        write(
            there,
            "/boot.py",
            b"import _thread, time\ndef talk():\n while True:\n  time.sleep_ms(20)\n"
            b"  print(21.5)\n_thread.start_new_thread(talk, ())\n",
        )
        there.start_program()
    board.wait_for_output("21.5")
    began = time.monotonic()
    outcome = provisioner.board(board, "reading", "--no-connect")
    assert time.monotonic() - began < seconds(60)
    assert outcome.status == 1
    assert outcome.said("talks without an end: press its reset button"), outcome.text


def test_an_answer_without_an_end_is_not_waited_for_twice(
    provisioner: Provisioner, board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its end nor for the restart that follows, and Ctrl-C does not come through."""
    with Board(board.port) as there:
        make_directories(there, ["/lib"])
        write(
            there,
            "/lib/json.py",
            b"import micropython\nfrom ujson import *\ndef dumps(x):\n micropython.kbd_intr(-1)\n"
            b" while True: print('on and on ' * 6)\n",
        )
        there.soft_reset()
    monkeypatch.setattr(repl, "SILENCE_S", 2)
    monkeypatch.setattr(repl, "_TALK_S", 2)
    monkeypatch.setattr(repl, "_RESET_S", seconds(120))
    began = time.monotonic()
    outcome = provisioner.board(board, "on-and-on", "--no-connect")
    assert time.monotonic() - began < seconds(60)
    assert outcome.said("talks without an end"), outcome.text
