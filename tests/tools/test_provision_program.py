"""`provision --main`: a program that does not compile, or dies at once, is told of and goes."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from securemqtt_tools.provision.board import compiler, trial
from securemqtt_tools.provision.board.files import rename, write
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import Outcome, Provisioner, contents, read
from support.boards.simboard import Line
from support.speed import seconds

_OLD = b"print('the old one')\nimport time\nwhile True: time.sleep(1)\n"
_NUMBERS = itertools.count()


class Bench:
    """A board that has a program, and a way to give it another one."""

    def __init__(self, provisioner: Provisioner, board: SimulatedBoard, file: Path) -> None:
        self.board = board
        self.device_id = f"bench-{next(_NUMBERS)}"  # all tests have one authority
        self._provisioner = provisioner
        self._file = file

    def give(self, program: str | bytes, *options: str) -> Outcome:
        """Provision the board with a program."""
        self._file.write_bytes(program if isinstance(program, bytes) else program.encode())
        return self._provisioner.board(
            self.board, self.device_id, "--no-connect", "--main", str(self._file), *options
        )

    @property
    def main(self) -> bytes:
        """What is on the board as main.py."""
        return read(self.board, "/main.py")


@pytest.fixture
def bench(provisioner: Provisioner, simulated_board: SimulatedBoard, tmp_path: Path) -> Bench:
    """Provide a board with a program that lives."""
    with Board(simulated_board.port) as there:
        write(there, "/main.py", _OLD)
    return Bench(provisioner, simulated_board, tmp_path / "my_sensor.py")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a program time to die on a slow machine, too."""
    monkeypatch.setattr(trial, "_FIRST_SECONDS", seconds(10))


@pytest.fixture
def soon(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a program watched for two seconds."""
    monkeypatch.setattr(trial, "_FIRST_SECONDS", 2)


def _runs_again(board: SimulatedBoard, since: int) -> None:
    board.wait_for_output("the old one", since=since)


def test_a_syntax_error_never_reaches_the_board(bench: Bench) -> None:
    boots, before = bench.board.status()["boots"], contents(bench.board)
    for options in ((), ("--dry-run",)):
        outcome = bench.give("x = 1\ndef broken(:\n    pass\n", *options)
        assert outcome.status == 1
        assert outcome.said("my_sensor.py", "not put on the board: line 2: SyntaxError"), outcome
        assert outcome.out == ""  # the port was not even opened
    assert (bench.board.status()["boots"], contents(bench.board)) == (boots, before)


@pytest.mark.parametrize(
    "program",
    [b"\x00", b"'\xff\xfe' )", "é = (\n".encode("latin-1"), b"\xef\xbb\xbfdef x("],
    ids=["zero", "no-utf-8", "latin-1", "byte-order-mark"],
)
def test_what_is_no_program_at_all(bench: Bench, program: bytes) -> None:
    outcome = bench.give(program)
    assert (outcome.status, outcome.said("not put on the board")) == (1, True), outcome.text
    assert bench.main == _OLD


def test_a_program_that_is_compiled_without_an_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_COMPILE_S", 1)
    outcome = bench.give("x = 9**9**9\n")
    assert (outcome.status, bench.main) == (1, _OLD)
    assert outcome.said("my_sensor.py is not put on the board: mpy-cross did not come to an end")


def test_code_for_another_processor(bench: Bench) -> None:
    thumb = "import micropython\n@micropython.asm_thumb\ndef f(): nop()\n"
    assert bench.give(thumb).said("not put on the board", "SyntaxError: invalid arch")
    native = "import micropython, time\n@micropython.viper\ndef f(): pass\nprint('viper runs')\n"
    assert bench.give(native).status == 0


def test_a_program_that_dies_is_shown_and_the_old_one_comes_back(bench: Bench) -> None:
    since = bench.board.position()
    outcome = bench.give("import securemqtt\nsecuremqtt.Client('/secure', keepalive=30)\n")
    assert outcome.status == 1 and "ready" not in outcome.out
    assert outcome.said("my_sensor.py died after", "keepalive", "the program before is back")
    assert "Traceback (most recent call last):\n" in outcome.out
    assert 'File "main.py", line 2' in outcome.out
    _runs_again(bench.board, since)
    assert bench.main == _OLD
    assert "/main.py.old" not in contents(bench.board)


def test_the_first_program_of_a_board_goes_if_it_dies(
    provisioner: Provisioner, simulated_board: SimulatedBoard, tmp_path: Path
) -> None:
    bench = Bench(provisioner, simulated_board, tmp_path / "first.py")
    outcome = bench.give("raise ValueError('\x1b[2Jno sensor')\n")
    assert outcome.said("first.py died", "ValueError", "which has no program now"), outcome.text
    assert "\x1b" not in outcome.text
    assert "/main.py" not in contents(simulated_board)


@pytest.mark.usefixtures("soon")
def test_a_program_that_lives_runs_on_and_the_old_one_is_kept(bench: Bench) -> None:
    since = bench.board.position()
    outcome = bench.give("print('the new one')\nimport time\nwhile True: time.sleep(1)\n")
    assert (outcome.status, outcome.err) == (0, "")
    assert (
        "Program: it lives after " in outcome.out and f"{bench.device_id} is ready" in outcome.out
    )
    assert "the one before is /main.py.old" in outcome.out
    bench.board.wait_for_output("the new one", since=since)
    assert bench.board.console(since).count("the new one") == 1  # it was started, and left alone
    with Line(bench.board) as line:
        line.enter_raw_repl()
    assert read(bench.board, "/main.py.old") == _OLD


def test_a_run_that_was_cut_short_is_made_up_for(bench: Bench) -> None:
    """The new program is there, and nobody has seen it live."""
    with Board(bench.board.port) as there:
        rename(there, "/main.py", "/main.py.old")
        write(there, "/main.py", b"1 / 0\n")
    outcome = bench.give("1 / 0\n")
    assert outcome.said("ZeroDivisionError", "the program before is back"), outcome.text
    assert bench.main == _OLD


def test_ctrl_c_within_the_first_seconds_brings_the_old_one_back(bench: Bench) -> None:
    since = bench.board.position()
    with ThreadPoolExecutor(1) as pool:
        struck = pool.submit(_interrupt_when_printed, bench.board, "begun", since)
        outcome = bench.give("print('begun')\nimport time\nwhile True: time.sleep(1)\n")
        struck.result()
    assert outcome.status == 130
    assert "my_sensor.py was not watched to the end: the program before is back" in outcome.out
    _runs_again(bench.board, since)
    assert bench.main == _OLD
    assert bench.give("1 / 0\n").said("the program before is back")
    assert bench.main == _OLD


def test_the_last_good_program_outlives_a_trial_that_nobody_saw_the_end_of(bench: Bench) -> None:
    """As where this computer lost its power: one that never lived is the program before."""
    with Board(bench.board.port) as there:
        rename(there, "/main.py", "/main.py.old")
        write(there, "/main.py", b"print('never tried')\n")
    outcome = bench.give("1 / 0\n")
    assert outcome.said("is back, and the one before that is /main.py.old"), outcome.text
    assert bench.main == b"print('never tried')\n"
    assert read(bench.board, "/main.py.old") == _OLD
    assert "/main.py.older" not in contents(bench.board)


def test_each_of_three_programs_has_its_place_again(bench: Bench) -> None:
    """After Ctrl-C, and when the new one dies."""
    names = ("/main.py", "/main.py.old", "/main.py.older")
    programs = [f"import time\nprint({name!r})\ntime.sleep(60)\n".encode() for name in names]
    with Board(bench.board.port) as there:
        for name, content in zip(names, programs, strict=True):
            write(there, name, content)
    since = bench.board.position()
    with ThreadPoolExecutor(1) as pool:
        struck = pool.submit(_interrupt_when_printed, bench.board, "begun", since)
        outcome = bench.give("print('begun')\nimport time\nwhile True: time.sleep(1)\n")
        struck.result()
    assert outcome.status == 130
    assert [read(bench.board, name) for name in names] == programs
    assert bench.give("1 / 0\n").said("the program before is back")
    assert [read(bench.board, name) for name in names] == programs
    assert "/main.py.oldest" not in contents(bench.board)


@pytest.mark.usefixtures("soon")
def test_the_old_program_comes_back_by_hand_as_the_page_says(bench: Bench) -> None:
    page = (Path(__file__).parents[2] / "docs" / "provisioning.md").read_text()
    (line,) = [line for line in page.splitlines() if "main.py.old', 'main.py'" in line]
    assert bench.give("import time\ntime.sleep(60)\n").status == 0
    since = bench.board.position()
    words = shlex.split(line.replace("PORT", bench.board.port))
    subprocess.run([sys.executable, "-m", *words], check=True, timeout=seconds(60))
    _runs_again(bench.board, since)
    assert bench.main == _OLD
    assert "/main.py.old" not in contents(bench.board)


@pytest.mark.usefixtures("soon")
def test_what_lay_beside_the_program_moves_on_and_the_last_of_it_is_given_up(
    bench: Bench,
) -> None:
    for number in range(1, 6):
        assert bench.give(f"import time\nprint({number})\ntime.sleep(60)\n").status == 0
    kept = [read(bench.board, f"/main.py{end}") for end in ("", ".old", ".older", ".oldest")]
    assert [content.splitlines()[1] for content in kept] == [
        f"print({number})".encode() for number in (5, 4, 3, 2)
    ]


def test_a_program_that_ends_in_order_is_no_fault(bench: Bench) -> None:
    outcome = bench.give("print('done')\n")
    assert outcome.status == 0
    assert ", without an error; the one before is /main.py.old" in outcome.out


def test_a_program_that_restarts_the_board_for_ever(bench: Bench) -> None:
    since = bench.board.position()
    outcome = bench.give(
        "import sys, time\nprint('once more')\nfor _ in range(20): time.sleep_ms(5)\nsys.exit()\n"
    )
    assert outcome.said("my_sensor.py died", "restarts the board", "the program before is back")
    _runs_again(bench.board, since)
    assert bench.main == _OLD


@pytest.mark.usefixtures("soon")
def test_a_program_that_talks_without_pause_lives(bench: Bench) -> None:
    outcome = bench.give("while True: print('busy ' * 20)\n")
    assert (outcome.status, "it lives" in outcome.out) == (0, True), outcome.text


def test_a_board_that_does_not_reach_its_broker_keeps_its_program(
    provisioner: Provisioner, simulated_board: SimulatedBoard, tmp_path: Path
) -> None:
    with Board(simulated_board.port) as there:
        write(there, "/main.py", _OLD)
    file = tmp_path / "my_sensor.py"
    file.write_text("print('new')\n")
    outcome = provisioner.board(
        simulated_board,
        "bench-cut-off",
        *provisioner.wifi,
        "--main",
        str(file),
        broker="broker.invalid",
    )
    assert outcome.said("the board is set up but does not reach")
    assert "my_sensor.py comes after it" in outcome.out
    assert read(simulated_board, "/main.py") == _OLD


def test_a_program_that_takes_the_board_off_the_line_stays(bench: Bench) -> None:
    """As a deep sleep or a reset does on USB; here the power goes."""
    since = bench.board.position()
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(_cut_when_printed, bench.board, "off we go", since)
        outcome = bench.give("print('off we go')\nimport time\nwhile True: time.sleep(1)\n")
        cut.result()
    assert outcome.status == 0, outcome.text
    assert "Program: the board left the line after" in outcome.out
    bench.board.power_on()
    assert bench.main.startswith(b"print('off we go')")
    assert read(bench.board, "/main.py.old") == _OLD


def _cut_when_printed(board: SimulatedBoard, text: str, since: int) -> None:
    board.wait_for_output(text, seconds(120), since)
    board.power_cut()


def _interrupt_when_printed(board: SimulatedBoard, text: str, since: int) -> None:
    board.wait_for_output(text, seconds(120), since)
    os.kill(os.getpid(), signal.SIGINT)
