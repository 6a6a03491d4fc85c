"""What a board does on its serial line: prompts, Ctrl-C and Ctrl-D, boot.py and main.py, bytes as
they are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import RAW_PROMPT, Line, require_micropython


@pytest.fixture(scope="module", params=[False, True], ids=["interpreter-prompt", "own-prompt"])
def shared_board(request: pytest.FixtureRequest) -> Iterator[SimulatedBoard]:
    require_micropython()
    with SimulatedBoard(own_prompt=request.param) as running:
        yield running


@pytest.fixture
def board(shared_board: SimulatedBoard) -> SimulatedBoard:
    """Return the board without boot.py and main.py, just booted."""
    with Line(shared_board) as line:
        line.enter_raw_repl()
        line.execute("import os\nfor name in os.listdir():\n os.remove(name)")
    restart(shared_board)
    return shared_board


def restart(board: SimulatedBoard) -> int:
    """Reset, and return the position in the output from which the new run's begins."""
    start = board.position()
    board.reset()
    return start


def write(board: SimulatedBoard, **files: str) -> None:
    with Line(board) as line:
        line.enter_raw_repl()
        for name, text in files.items():
            assert line.execute(f"with open('{name}.py', 'w') as f: f.write({text!r})") == b""


def test_the_friendly_prompt_answers(board: SimulatedBoard):
    with Line(board) as line:
        line.send(b"\r\x03\x02")
        line.expect(b">>> ")
        line.send(b"print('a' + 'b')\r")
        line.expect(b"ab\r\n>>> ")


def test_the_friendly_prompt_takes_compound_statements_and_paste(board: SimulatedBoard):
    with Line(board) as line:
        line.send(b"\r\x03\x02")
        line.expect(b">>> ")
        line.send(b"def f(a): return a + 1\r\r")
        line.expect(b">>> ")
        line.send(b"f(\r41)\r")
        line.expect(b"42\r\n>>> ")
        line.send(b"\x05")
        line.expect(b"=== ")
        line.send(b"for i in range(2):\r  print('pasted', i)\r\x04")
        line.expect(b"pasted 0\r\npasted 1\r\n>>> ")
        line.send(b"1 // 0\r")
        assert b"ZeroDivisionError" in line.expect(b">>> ")


def test_raw_paste_mode_can_be_cancelled(board: SimulatedBoard):
    with Line(board) as line:
        line.enter_raw_repl()
        line.send(b"\x05A\x01")
        line.expect(b"R\x01\x80\x00\x01")
        line.send(b"print('never')\x03")
        assert b"never" not in line.expect(b">")
        assert line.execute("print('next')") == b"next\r\n"


def test_boot_and_main_run_at_start_in_one_namespace(board: SimulatedBoard):
    write(board, boot="word = 'from boot'\nprint('boot')", main="print('main', word, __name__)")
    start = restart(board)
    board.wait_for_output(
        "main from boot __main__\r\n", since=board.wait_for_output("boot\r\n", since=start)
    )
    board.wait_for_output(">>> ", since=start)


def test_a_soft_reset_at_the_friendly_prompt_runs_main_again(board: SimulatedBoard):
    write(board, main="print('main runs')")
    with Line(board) as line:
        line.send(b"\r\x03\x02\x04")
        line.expect(b"MPY: soft reboot\r\n")
        line.expect(b"main runs\r\n")
        line.expect(b">>> ")


def test_a_soft_reset_in_the_raw_repl_runs_boot_only_and_stays_there(board: SimulatedBoard):
    write(board, boot="print('boot runs')", main="print('main runs')")
    with Line(board) as line:
        line.enter_raw_repl()
        line.send(b"\x04")
        output = line.expect(RAW_PROMPT)
        assert b"MPY: soft reboot\r\n" in output
        assert b"boot runs\r\n" in output
        assert b"main runs" not in output
        assert b">>>" not in output
        assert line.execute("print('still here')") == b"still here\r\n"
        line.send(b"\x02")
        line.expect(b">>> ")


@pytest.mark.parametrize(
    "wait",
    [
        "time.sleep(100)",
        "p.poll(100000)",
        "p.poll()",
        "s.accept()",
        "machine.lightsleep(100000)",
        "sys.stdin.read(1)",
    ],
)
def test_ctrl_c_interrupts_a_main_that_waits(board: SimulatedBoard, wait: str):
    prepare = """
import machine, select, socket, sys, time
p = select.poll()
p.register(sys.stdin, select.POLLIN)
s = socket.socket()
s.listen(1)
print('running')
"""
    write(board, main=f"{prepare}while True: {wait}")
    board.wait_for_output("running", since=restart(board))
    with Line(board) as line:
        line.send(b"\x03")
        assert b"KeyboardInterrupt" in line.expect(b">>> ")


@pytest.mark.parametrize("body", ["pass", "f = open('/log', 'ab'); f.write(b'x' * 100); f.close()"])
def test_ctrl_c_interrupts_a_busy_main(board: SimulatedBoard, body: str):
    write(board, main=f"print('running')\nwhile True:\n  {body}")
    board.wait_for_output("running", since=restart(board))
    with Line(board) as line:
        for _ in range(5):
            line.send(b"\x03")
        assert b"KeyboardInterrupt" in line.expect(b">>> ")
        line.enter_raw_repl()
        line.execute("f = open('/after', 'w'); f.write('whole'); f.close()")
        assert line.execute("print(open('/after').read())") == b"whole\r\n"


def test_ctrl_c_never_breaks_the_file_system(board: SimulatedBoard):
    main = (
        "n = 0\nwhile True:\n  with open('/log%d' % (n % 3), 'ab') as f: f.write(b'x' * 137)\n "
        " n += 1\n  print(n)"
    )
    check = (
        "import os\nfor e in os.ilistdir('/'):\n  f = open(e[0], 'rb')\n  while f.read(500): "
        "pass\nprint('whole')"
    )
    write(board, main=main)
    moments = random.Random(7)
    for _ in range(15):
        board.wait_for_output(f"\r\n{moments.randrange(5, 30)}\r\n", since=restart(board))
        with Line(board) as line:
            line.send(b"\x03")
            line.expect(b">>> ")
            line.enter_raw_repl()
            assert line.execute(check) == b"whole\r\n"


def test_ctrl_c_at_the_prompt_ends_nothing(board: SimulatedBoard):
    boots = board.status()["boots"]
    with Line(board) as line:
        line.enter_raw_repl()
        line.execute("kept = 'kept'")
        for _ in range(20):
            line.send(b"\x03")
        assert line.execute("print(kept)") == b"kept\r\n"
    assert board.status()["boots"] == boots


def test_a_program_may_take_ctrl_c_for_itself(board: SimulatedBoard):
    program = """
import micropython, sys
micropython.kbd_intr(-1)
print('ready')
got = sys.stdin.buffer.read(5)
micropython.kbd_intr(3)
print(got)
"""
    with Line(board) as line:
        line.enter_raw_repl()
        line.send(program.encode() + b"\x04")
        line.expect(b"ready\r\n")
        line.send(b"a\x03\x04\x00\n")
        line.expect(b"b'a\\x03\\x04\\x00\\n'\r\n\x04\x04>")


def test_text_gets_carriage_returns_and_bytes_do_not(board: SimulatedBoard):
    with Line(board) as line:
        line.enter_raw_repl()
        assert line.execute("print('a\\nb\\r\\nc')") == b"a\r\nb\r\nc\r\n"
        assert line.execute(
            "import sys; n = sys.stdout.buffer.write(bytes([10, 13, 10, 0, 4 + 1, 10]))"
        ) == (b"\n\r\n\x00\x05\n")


def test_a_main_that_fails_shows_its_traceback_and_leaves_the_prompt(board: SimulatedBoard):
    write(board, main="def f():\n  raise OSError(5)\nf()")
    start = restart(board)
    board.wait_for_output("OSError", since=start)
    board.wait_for_output(">>> ", since=start)
    assert 'File "main.py", line 3' in board.console(since=start)


def test_sys_exit_in_main_is_a_soft_reset(board: SimulatedBoard):
    write(
        board,
        main="import os, sys\ntry:\n  os.stat('/once')\nexcept OSError:\n  open('/once', "
        "'w').close()\n  sys.exit()",
    )
    start = restart(board)
    board.wait_for_output("MPY: soft reboot\r\n", since=start)
    board.wait_for_output(">>> ", since=start)


def test_output_that_nobody_reads_does_not_stop_the_board(board: SimulatedBoard):
    write(board, main="for n in range(5000): print('line', n, 'x' * 50)\nprint('done printing')")
    board.wait_for_output("done printing", since=restart(board))


def test_a_reader_that_does_not_read_does_not_stop_the_board(board: SimulatedBoard):
    write(board, main="for n in range(3000): print('line', n, 'x' * 50)\nprint('done printing')")
    with Line(board):
        board.wait_for_output("done printing", since=restart(board))
