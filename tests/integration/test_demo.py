"""The demonstration, run as its users run it: that it holds, that it fails where something fails,
and that it leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from securemqtt_tools.demo.processes import descendants, running
from support.requirements import require_program
from support.speed import seconds

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo.py"
LAST_LINE = re.compile(r"demo: (\d+) of (\d+) checks held")
RUN_S = seconds(110)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: int
    lines: list[str]
    errors: str

    @property
    def held(self) -> tuple[int, int]:
        """How many checks held, and of how many: from the last line, which must say so."""
        found = LAST_LINE.fullmatch(self.lines[-1])
        assert found, self.lines[-5:]
        return int(found[1]), int(found[2])

    @property
    def failed(self) -> list[str]:
        """The lines of the checks that did not hold."""
        return [line for line in self.lines if line.strip().startswith(("✗", "failed "))]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a directory for the run's temporary files, with a name short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="demo-"))
    yield directory
    shutil.rmtree(directory)


def run_demo(
    temporary: Path,
    *arguments: str,
    at: str = "",
    then: Callable[[int], None] | None = None,
    encoding: str = "utf-8",
) -> Outcome:
    """Run the demonstration; when a line has `at` in it, call `then` with the process id."""
    command = [sys.executable, "-u", str(DEMO), *arguments]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONIOENCODING": encoding}
    with (
        (temporary / "errors").open("w+") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding=encoding,
            env=environment,
        ) as process,
    ):
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if then is not None and at in line:
                    then(process.pid)
                    then = None
            status = process.wait(RUN_S)
        finally:
            process.terminate()
        errors.seek(0)
        return Outcome(status, lines, errors.read())


def left_behind(temporary: Path) -> list[str]:
    """Return the names of what a run has left among the temporary files."""
    return [path.name for path in temporary.iterdir() if path.name != "errors"]


def command_line(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_every_check_holds(temporary: Path) -> None:
    require_program("mosquitto")
    require_program("micropython")
    outcome = run_demo(temporary)
    assert outcome.failed == []
    assert outcome.status == 0
    held, total = outcome.held
    assert held == total >= 12
    account = "\n".join(outcome.lines)
    assert "Left out" not in account
    assert "Mosquitto" in account
    for reason in (
        "ClientCertificateMissing",
        "ClientCertificateRefused",
        "ClientCertificateExpired",
        "ClientCertificateRevoked",
    ):
        assert f": {reason}: localhost:" in account
    # the Pi says so, and the board
    assert account.count("no CA that this device trusts has issued the certificate of ") == 2
    assert left_behind(temporary) == []


def test_with_what_is_always_there(temporary: Path) -> None:
    """Without Mosquitto and without MicroPython it says what it leaves out, and holds what is
    left.
    """
    outcome = run_demo(temporary, "--engine", "amqtt", "--no-board", encoding="ascii")
    assert outcome.failed == []
    assert outcome.status == 0
    held, total = outcome.held
    assert held == total >= 12
    account = "\n".join(outcome.lines)
    assert "Left out: the serial port" in account
    assert "amqtt" in account
    assert account.isascii()
    assert left_behind(temporary) == []


def test_fails_when_a_part_dies(temporary: Path) -> None:
    """The Pi's program is killed on the way: what depends on it does not hold, the rest does, and
    the account goes on to its end.
    """

    def kill_subscriber(demo: int) -> None:
        (subscriber,) = [
            pid for pid in descendants(demo) if "pi_controller.py" in command_line(pid)
        ]
        os.kill(subscriber, signal.SIGKILL)

    outcome = run_demo(
        temporary, "--no-board", "--engine", "amqtt", at="answered and obeyed", then=kill_subscriber
    )
    assert outcome.status == 1
    held, total = outcome.held
    assert 0 < held < total
    assert len(outcome.failed) == total - held
    assert any(
        "no reading is lost: the Pi's program has ended with status -9" in line
        for line in outcome.failed
    )
    assert outcome.errors == ""
    assert left_behind(temporary) == []


def test_interrupted(temporary: Path) -> None:
    """Ctrl-C ends every process and removes every file; the last line is still there."""
    children: list[int] = []

    def interrupt(demo: int) -> None:
        children.extend(descendants(demo))
        os.kill(demo, signal.SIGINT)

    outcome = run_demo(temporary, at="The broker runs", then=interrupt)
    assert outcome.status == 130
    held, total = outcome.held
    assert held < total
    assert outcome.errors == "securemqtt: interrupted\n"
    assert children
    assert not any(map(running, children))
    assert left_behind(temporary) == []


def test_mistakes_are_one_line(temporary: Path) -> None:
    (temporary / "mine").write_text("of value")
    outcome = run_demo(temporary, "--keep", str(temporary))
    assert outcome.status == 1
    assert outcome.lines == []
    assert (
        outcome.errors
        == f"securemqtt: {temporary} is in use for something else: give --keep a directory that "
        f"is new or empty\n"
    )
    assert (temporary / "mine").read_text() == "of value"
