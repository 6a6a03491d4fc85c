"""The real mpremote, with no special option, takes a simulated board for a board."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import serial

import securemqtt
import securemqtt_tools
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import mpremote, require_libfaketime, require_micropython, run_mpremote
from support.network.net import wait_until
from support.speed import seconds


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    require_micropython()
    with SimulatedBoard(profile="pico_w") as running:
        yield running


def test_runs_python(board: SimulatedBoard):
    assert mpremote(board, "exec", "print('line', 1); print(6 * 7)") == "line 1\n42\n"
    assert mpremote(board, "eval", "{'a': [1, 2]}") == "{'a': [1, 2]}\n"


def test_runs_a_local_file_and_shows_its_traceback(board: SimulatedBoard, tmp_path: Path):
    script = tmp_path / "faulty.py"
    script.write_text("print('before')\n1 // 0\n")
    done = run_mpremote(board.port, "run", str(script))
    assert done.returncode == 1
    assert "before" in done.stdout
    assert "ZeroDivisionError" in done.stdout + done.stderr


def test_a_program_longer_than_the_raw_paste_window_arrives_whole(
    board: SimulatedBoard, tmp_path: Path
):
    script = tmp_path / "long.py"
    script.write_text("".join(f"v{n} = {n}\n" for n in range(800)) + "print(v799)\n")
    assert mpremote(board, "run", str(script)) == "799\n"


def test_carries_files_both_ways(board: SimulatedBoard, tmp_path: Path):
    content = random.Random(1).randbytes(20_000) + bytes(range(256)) * 4
    there, back = tmp_path / "there.bin", tmp_path / "back.bin"
    there.write_bytes(content)
    mpremote(board, "fs", "mkdir", "data")
    mpremote(board, "fs", "cp", str(there), ":data/file.bin")
    assert "21024 file.bin" in mpremote(board, "fs", "ls", "data")
    assert hashlib.sha256(content).hexdigest() in mpremote(
        board, "fs", "sha256sum", "data/file.bin"
    )
    mpremote(board, "fs", "cp", ":data/file.bin", str(back))
    assert back.read_bytes() == content
    mpremote(board, "fs", "rm", "data/file.bin")
    mpremote(board, "fs", "rmdir", "data")
    assert "data" not in mpremote(board, "fs", "ls")


def test_copies_a_tree_and_the_next_interpreter_imports_it(board: SimulatedBoard, tmp_path: Path):
    package = tmp_path / "greeting"
    package.mkdir()
    (package / "__init__.py").write_text("word = 'hello'\n")
    mpremote(board, "fs", "mkdir", "lib")
    mpremote(board, "fs", "cp", "-r", str(package), ":lib/")
    assert mpremote(board, "exec", "import greeting; print(greeting.word)") == "hello\n"


def test_tells_the_size_of_the_flash(board: SimulatedBoard):
    assert str(848 * 1024) in mpremote(board, "df")


def test_a_full_flash_says_so(board: SimulatedBoard):
    program = """
import os
try:
    with open('/big', 'wb') as f:
        for _ in range(300):
            f.write(bytes(4096))
except OSError as e:
    print(e.errno)
try:
    os.remove('/big')
except OSError:
    pass
print(os.statvfs('/')[3] > 150)
"""
    assert mpremote(board, "exec", program) == "28\nTrue\n"


def test_the_heap_is_the_profile_s_twice(board: SimulatedBoard):
    free = int(mpremote(board, "exec", "import gc; gc.collect(); print(gc.mem_free())"))
    assert 0.93 < free / (2 * 163840) < 1.05
    assert (
        mpremote(board, "exec", "try:\n b = bytearray(400000)\nexcept MemoryError:\n print('full')")
        == "full\n"
    )


def test_the_board_says_what_it_is(board: SimulatedBoard):
    program = (
        "import os, sys; print(sys.implementation._machine); print(os.uname().machine, "
        "os.uname().sysname)"
    )
    assert mpremote(board, "exec", program) == (
        "Raspberry Pi Pico W with RP2040\nRaspberry Pi Pico W with RP2040 rp2\n"
    )


def test_the_host_is_out_of_reach(board: SimulatedBoard):
    program = """
import os
print([name for name in ('system', 'getenv', 'putenv') if hasattr(os, name)])
try:
    open('/etc/hostname')
except OSError as e:
    print(e.errno)
import sys
print(sys.path, [name for name in sys.modules if 'board' in name or name in ('wire', 'flash')])
"""
    assert mpremote(board, "exec", program) == "[]\n2\n['', '.frozen', '/lib'] []\n"


def test_the_clock_starts_wrong_and_is_set(board: SimulatedBoard):
    require_libfaketime()
    board.reset()
    assert (
        mpremote(board, "exec", "import time; print(time.gmtime()[0], time.time() // 86400)")
        == "2021 18628\n"
    )
    mpremote(board, "rtc", "--set")
    set_to = mpremote(board, "exec", "import machine; print(machine.RTC().datetime()[0])")
    host = f"{datetime.now().year}\n"
    assert set_to == host
    assert mpremote(board, "rtc").startswith(f"({host.strip()}, ")
    mpremote(board, "soft-reset")
    assert mpremote(board, "exec", "import time; print(time.gmtime()[0])") == host
    boots = board.status()["boots"]
    mpremote(board, "reset")
    # mpremote begins with a soft reset, then has the board wait for 0.1 s: the next command's
    # Ctrl-C would end that wait.
    wait_until(lambda: board.status()["boots"] == boots + 2, seconds(20), "the reset")
    assert mpremote(board, "exec", "import time; print(time.gmtime()[0])") == "2021\n"


def test_mounts_a_local_directory(board: SimulatedBoard, tmp_path: Path):
    content = bytes(range(256)) * 8  # all control characters among them
    (tmp_path / "in.bin").write_bytes(content)
    (tmp_path / "local_module.py").write_text("answer = 42\n")
    program = (
        "import local_module; print(local_module.answer); "
        "data = open('/remote/in.bin', 'rb').read(); print(len(data)); "
        "f = open('/remote/out.bin', 'wb'); f.write(data); f.close()"
    )
    assert "42\n2048\n" in mpremote(board, "mount", str(tmp_path), "exec", program)
    assert (tmp_path / "out.bin").read_bytes() == content


def test_a_second_program_is_told_that_the_port_is_in_use(board: SimulatedBoard):
    with serial.Serial(board.port, exclusive=True):
        done = run_mpremote(board.port, "eval", "1")
        assert done.returncode == 1
        assert "in use" in done.stdout + done.stderr
    assert mpremote(board, "eval", "1") == "1\n"


def test_a_lasting_link_to_the_port_will_do(board: SimulatedBoard):
    done = run_mpremote(board.link, "eval", "'through the link'")
    assert done.stdout.strip() == "through the link"


def test_the_page_s_program_runs(tmp_path: Path) -> None:
    require_micropython()
    page = Path(__file__).parents[2] / "docs" / "simulated-board.md"
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "try_board.py").write_text(program)
    packages = [
        str(Path(securemqtt.__file__).parents[1]),
        str(Path(securemqtt_tools.__file__).parents[1]),
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        [sys.executable, "try_board.py"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(packages)},
        capture_output=True,
        text=True,
        timeout=seconds(120),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "FlashStats(operations=" in done.stdout
