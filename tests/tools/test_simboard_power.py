"""Resets, deep sleep, the watchdog, and what the flash keeps when the power fails at any write."""

from __future__ import annotations

from pathlib import Path

import pytest

from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import Line, mpremote, require_libfaketime, require_micropython
from support.speed import slowness

CAUSE = "import machine; print(machine.reset_cause())"
PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = range(1, 6)


@pytest.fixture(autouse=True)
def _micropython() -> None:
    require_micropython()


def run_in_main(board: SimulatedBoard, program: str) -> None:
    """Put `program` into main.py, behind a guard that lets it run once, and boot."""
    guard = "import os, machine\nif 'done' not in os.listdir():\n  open('done', 'w').close()\n"
    text = (
        guard
        + "".join(f"  {line}\n" for line in program.splitlines())
        + "else:\n  print('cause', machine.reset_cause())\n"
    )
    with Line(board) as line:
        line.enter_raw_repl()
        line.execute("import os\ntry: os.remove('done')\nexcept OSError: pass")
        assert line.execute(f"with open('main.py', 'w') as f: f.write({text!r})") == b""
    board.reset()


def test_the_causes_of_a_reset_are_told_apart():
    with SimulatedBoard() as board:
        board.wait_for_output(">>> ")
        with Line(board) as line:
            line.enter_raw_repl()
            assert line.execute(CAUSE) == f"{PWRON_RESET}\r\n".encode()
            line.send(b"\x04")
            line.expect(b"raw REPL; CTRL-B to exit\r\n>")
            assert line.execute(CAUSE) == f"{SOFT_RESET}\r\n".encode()
        for program, cause in (
            ("machine.reset()", HARD_RESET),
            ("machine.deepsleep(100)", DEEPSLEEP_RESET),
            ("machine.WDT(timeout=100)\nwhile True: pass", WDT_RESET),
        ):
            start = board.position()
            run_in_main(board, program)
            board.wait_for_output(f"cause {cause}\r\n", since=start)
        assert board.errors() == ""


def test_a_watchdog_that_is_fed_does_not_bite():
    with SimulatedBoard() as board:
        # ample for a turn of the loop here; it is fed for longer
        patience_ms = int(900 + 100 * slowness())
        program = f"""
w = machine.WDT(timeout={patience_ms})
import time
for _ in range({patience_ms // 40}):
  time.sleep_ms(50)
  w.feed()
print('fed')
"""
        run_in_main(board, program.strip())
        position = board.wait_for_output("fed\r\n")
        board.wait_for_output(f"cause {WDT_RESET}\r\n", since=position)


def test_a_power_cut_takes_the_port_and_power_brings_it_back(tmp_path: Path):
    with SimulatedBoard(image=tmp_path / "flash.img") as board:
        with Line(board) as line:
            line.enter_raw_repl()
            line.execute("f = open('/kept', 'w'); f.write('still here'); f.close()")
            board.power_cut()
            assert not Path(board.link).exists()
            with pytest.raises(OSError):
                line.send(b"x")
                line.expect(b"never")
        board.power_on()
        assert mpremote(board, "exec", "print(open('/kept').read())") == "still here\n"


def test_an_image_is_a_board_s_memory_from_one_run_to_the_next(tmp_path: Path):
    image = tmp_path / "flash.img"
    ids = []
    for content in ("first", "second"):
        with SimulatedBoard(image=image, profile="pico_w") as board:
            if content == "first":
                mpremote(board, "exec", "f = open('/note', 'w'); f.write('first'); f.close()")
            else:
                assert mpremote(board, "exec", "print(open('/note').read())") == "first\n"
            ids.append(mpremote(board, "exec", "import machine; print(machine.unique_id())"))
    assert ids[0] == ids[1]
    assert image.stat().st_size == 848 * 1024


def test_the_flash_counts_what_it_goes_through():
    with SimulatedBoard() as board:
        board.wait_for_output(">>> ")
        before = board.stats()
        mpremote(board, "exec", "f = open('/data', 'wb'); f.write(bytes(20000)); f.close()")
        after = board.stats()
        programmed = after.programmed_bytes - before.programmed_bytes
        erases = after.erases - before.erases
        assert 20000 <= programmed < 40000
        assert 5 <= erases < 12
        assert after.operations - before.operations >= erases + programmed // 4096
        assert mpremote(board, "exec", "print(len(open('/data', 'rb').read()))") == "20000\n"
        assert board.stats() == after


def test_a_failing_flash_gives_eio_and_recovers():
    with SimulatedBoard() as board:
        board.wait_for_output(">>> ")
        board.flash_failing(True)
        program = (
            "try:\n f = open('/x', 'w'); f.write('x'); f.close()\nexcept OSError as e:\n "
            "print(e.errno)"
        )
        assert mpremote(board, "exec", program) == "5\n"
        board.flash_failing(False)
        assert (
            mpremote(board, "exec", "f = open('/x', 'w'); f.write('x'); f.close(); print('good')")
            == "good\n"
        )


def test_the_garbage_collector_can_close_a_file():
    with SimulatedBoard() as board:
        program = """
import gc
def leave():
    open('/left', 'wb').write(b'x' * 10000)
leave()
gc.collect()
print(len(open('/left', 'rb').read()))
"""
        assert mpremote(board, "exec", program) == "10000\n"


JOURNAL = """
n = 0
try:
    with open('/journal') as f:
        lines = f.read().split('\\n')
        n = int(lines[-2])
except (OSError, IndexError):
    pass
print('kept', n)
while True:
    n += 1
    with open('/journal', 'a') as f:
        f.write('%d\\n' % n)
    print('wrote', n)
"""


@pytest.mark.parametrize("half", [False, True])
def test_what_was_written_before_the_power_failed_is_there_afterwards(half: bool):
    with SimulatedBoard() as board:
        with Line(board) as line:
            line.enter_raw_repl()
            assert line.execute(f"with open('main.py', 'w') as f: f.write({JOURNAL!r})") == b""
        board.power_cut_after(5)
        board.reset()
        board.wait_for_power_cut()
        for operations in (1, 2, 3, 4, 5, 6, 7, 9, 12):
            start = board.position()
            before = board.stats().operations
            board.power_cut_after(operations, half)
            board.power_on()
            board.wait_for_power_cut()
            assert board.stats().operations == before + operations
            text = board.console(since=start).replace("\r\n", "\n")
            kept = int(text.split("kept ")[1].split("\n")[0])
            written = [int(part.split("\n")[0]) for part in text.split("wrote ")[1:]]
            assert written == list(range(kept + 1, kept + 1 + len(written)))
            last = written[-1] if written else kept
            position = board.position()
            board.power_cut_after(0)
            board.power_on()
            position = board.wait_for_output("kept ", since=position)
            board.wait_for_power_cut()
            kept_now = int(board.console(since=position).split("\r\n")[0])
            assert kept_now in (last, last + 1)
        assert board.status()["formats"] == 1


def test_an_interpreter_that_dies_by_itself_is_started_again():
    with SimulatedBoard() as board:
        board.wait_for_output(">>> ")
        with Line(board) as line:
            line.enter_raw_repl()
            line.send(b"import sys; sys.exit(3)\x04")
            line.expect(b"MPY: soft reboot\r\n")
            line.expect(b"raw REPL; CTRL-B to exit\r\n>")
            assert line.execute("print(1)") == b"1\r\n"


def test_the_clock_of_an_esp32_starts_in_2000_and_goes_on_through_a_reset():
    require_libfaketime()
    with SimulatedBoard(profile="esp32") as board:
        assert (
            mpremote(board, "exec", "import time; print(time.gmtime()[0], time.time() < 100)")
            == "2000 True\n"
        )
        mpremote(
            board, "exec", "import machine; machine.RTC().datetime((2026, 5, 6, 0, 7, 8, 9, 0))"
        )
        board.reset()
        assert (
            mpremote(board, "exec", "import time; print(time.gmtime()[:4], time.gmtime(0)[0])")
            == "(2026, 5, 6, 7) 2000\n"
        )
        board.power_cut()
        board.power_on()
        assert mpremote(board, "exec", "import time; print(time.gmtime()[0])") == "2000\n"
