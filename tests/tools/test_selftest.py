"""`provision selftest` against a simulated board: by the real mpremote, with a real broker."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from contract.play import SCENARIOS as FILES
from securemqtt_tools.cli import main
from securemqtt_tools.provision.board.files import write
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.provision.board.survey import Facts
from securemqtt_tools.selftest.report import (
    HELD,
    MEMORY,
    NOT_RUN,
    OVERDUE,
    Report,
    Result,
    outcome_of,
)
from securemqtt_tools.selftest.running import SCENARIOS
from securemqtt_tools.selftest.visit import PLACE, scenario_names
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import WIFI_PASSWORD, Provisioner, contents
from support.network.net import wait_until
from support.speed import seconds

_TOOLS = Path(__file__).resolve().parents[2] / "tools"
# What runs on the board when nobody interrupts it.
_STARTED = "the user's program runs"
PROGRAM = f"""\
import time
print({_STARTED!r})
while True: time.sleep(1)
""".encode()
_TIDYING = "it tidies up"
_TIDIES_UP = f"""\
try:
    while True: time.sleep(1)
except KeyboardInterrupt:
    print({_TIDYING!r})
    time.sleep(5)
""".encode()
_numbers = itertools.count()


@pytest.fixture
def board(provisioner: Provisioner, simulated_board: SimulatedBoard) -> SimulatedBoard:
    """Provision a board, with a program of the user's."""
    device_id = f"tried-{next(_numbers)}"
    outcome = provisioner.board(simulated_board, device_id, *provisioner.wifi, "--no-connect")
    assert (outcome.status, outcome.err) == (0, "")
    with Board(simulated_board.port) as link:
        write(link, "/main.py", PROGRAM)
    return simulated_board


class Selftest:
    """The command, with a directory for its reports."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.reports = home / "reports"
        self.out = self.error = ""
        self._capture = capture

    def run(self, board: SimulatedBoard, *options: str) -> int:
        """Run it and return the exit status."""
        words = ("provision", "selftest", board.port, "--address", "127.0.0.1")
        places = ("--home", str(self.home), "--report", str(self.reports))
        self._capture.readouterr()
        status = main([*words, *places, *options])
        self.out, self.error = self._capture.readouterr()
        return status

    @contextmanager
    def started(self, board: SimulatedBoard, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Run it as a process of its own, which is ended with the block."""
        words = [sys.executable, str(_TOOLS / "provision.py"), "selftest", board.port]
        words += ["--address", "127.0.0.1", "--home", str(self.home)]
        process = subprocess.Popen(
            [*words, "--report", str(self.reports), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @property
    def markdown(self) -> str:
        """The report for people."""
        (path,) = self.reports.glob("*.md")
        return path.read_text()

    @property
    def report(self) -> dict[str, Any]:
        """The report for programs."""
        (path,) = self.reports.glob("*.json")
        report: dict[str, Any] = json.loads(path.read_text())
        return report


@pytest.fixture
def selftest(provisioner: Provisioner, capsys: pytest.CaptureFixture[str]) -> Selftest:
    """Make the command, in the provisioner's home."""
    return Selftest(provisioner.home, capsys)


def _starts(board: SimulatedBoard) -> int:
    """Return how often the user's program has started, as the board says: whoever asks the board
    for a file interrupts it.
    """
    return board.console().count(_STARTED)


def _read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it never said {text!r}")


def _only(*names: str) -> list[str]:
    return [word for name in names for word in ("--only", name)]


def test_the_board_is_tried_and_given_back_as_it_was(
    selftest: Selftest, board: SimulatedBoard
) -> None:
    before = contents(board)
    starts = _starts(board)
    status = selftest.run(board, *_only("connecting", "publishing", "reconnecting"))
    assert (status, selftest.error) == (0, "")
    assert "All 3 scenarios held." in selftest.out
    assert "3/3 reconnecting: 25 checks" in selftest.out
    wait_until(lambda: _starts(board) > starts, seconds(30), "the program's start")
    assert contents(board) == before
    report = selftest.report
    assert [one["outcome"] for one in report["results"]] == [HELD] * 3
    assert all(len(one["checks"]) >= 20 for one in report["results"])
    assert report["board"]["micropython"].startswith("1.")
    assert report["board"]["library"] == "the one on the board"
    assert (
        0 < report["figures"]["heap_free_connected"] < report["figures"]["heap_free_after_import"]
    )
    for one in report["results"]:
        assert f"| {one['scenario']} | held | {len(one['checks'])} |" in selftest.markdown
    for text in (selftest.markdown, json.dumps(report), selftest.out):
        for secret in ("Farm", WIFI_PASSWORD, "BEGIN", "192.0.2"):
            assert secret not in text
    for text in (selftest.markdown, json.dumps(report)):
        assert "127.0.0.1" not in text
        assert "serial" not in text
    assert selftest.markdown.startswith("# securemqtt on a simulated board (SecureMQTT simulated")
    assert report["board"]["simulated"] is True
    for text in (selftest.markdown.lower(), selftest.out):
        assert "this was a simulated board: its report is not one to send in" in text
    logged = [line for one in report["results"] for line in one["log"]]
    assert any("BROKER:PORT" in line for line in logged)
    assert not re.search(r"BROKER\W{1,3}\d", selftest.markdown + json.dumps(report))


@pytest.mark.long
def test_every_scenario_holds(selftest: Selftest, board: SimulatedBoard) -> None:
    before = contents(board)
    assert selftest.run(board) == 0, selftest.markdown
    assert [one["scenario"] for one in selftest.report["results"]] == list(SCENARIOS)
    assert contents(board) == before


def test_a_scenario_that_takes_too_long_is_told_and_the_next_is_run(
    selftest: Selftest, board: SimulatedBoard
) -> None:
    before = contents(board)
    # It is asleep for 9 s at least.
    options = _only("long_handler", "queueing")
    assert selftest.run(board, *options, "--deadline", "10", "--serial-number") == 1
    assert selftest.error.splitlines() == [
        "securemqtt: 1 of 2 scenarios did not hold (long_handler): the report says why"
    ]
    late, queueing = selftest.report["results"]
    assert (late["outcome"], queueing["outcome"]) == (OVERDUE, HELD)
    assert "not at its end after 10 s" in selftest.markdown
    assert len(bytes.fromhex(selftest.report["board"]["serial_number"])) >= 4
    assert contents(board) == before


def test_without_mosquitto_the_embedded_broker_serves(
    selftest: Selftest, board: SimulatedBoard
) -> None:
    options = _only("restarting", "reconnecting", "queueing")
    assert selftest.run(board, *options, "--engine", "amqtt") == 0
    said = "All 2 scenarios held; restarting was not run: it needs Mosquitto."
    assert said in selftest.out
    assert selftest.report["host"]["broker"] == "amqtt"
    outcomes = [one["outcome"] for one in selftest.report["results"]]
    assert outcomes == [NOT_RUN, HELD, HELD]


def test_another_library_on_the_board_is_left_alone_and_not_used(
    selftest: Selftest, board: SimulatedBoard
) -> None:
    with Board(board.port) as link:
        write(link, "/lib/securemqtt/__init__.mpy", b"not this version")
    before = contents(board)
    assert selftest.run(board, *_only("queueing")) == 0
    assert selftest.report["board"]["library"] == "one for the occasion"
    assert contents(board) == before


def test_a_board_that_loses_its_power_leaves_a_report_and_the_next_run_tidies_up(
    selftest: Selftest, board: SimulatedBoard
) -> None:
    before = contents(board)
    with selftest.started(board, *_only("queueing", "long_handler")) as process:
        _read_until(process, "queueing: 23 checks")
        board.power_cut()
        _, error = process.communicate(timeout=seconds(60))
    assert process.returncode == 1
    assert "went away or stopped answering" in error
    assert len(error.splitlines()) == 1
    assert "went away" in selftest.report["broken_off"]
    assert [one["outcome"] for one in selftest.report["results"]] == [HELD]
    for path in selftest.reports.iterdir():
        path.unlink()
    board.power_on()
    assert any(path.startswith(PLACE) for path in contents(board))
    assert selftest.run(board, *_only("queueing")) == 0
    assert contents(board) == before


def test_ctrl_c_gives_the_board_back(selftest: Selftest, board: SimulatedBoard) -> None:
    before = contents(board)
    starts = _starts(board)
    with selftest.started(board, *_only("queueing", "long_handler")) as process:
        _read_until(process, "queueing: 23 checks")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=seconds(60))
    assert (process.returncode, error) == (130, "securemqtt: interrupted\n")
    wait_until(lambda: _starts(board) > starts, seconds(30), "the program's start")
    assert contents(board) == before


def test_ctrl_c_again_and_again_gives_the_board_back(
    selftest: Selftest, board: SimulatedBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = contents(board)
    starts = _starts(board)
    with selftest.started(board, *_only("queueing", "long_handler")) as process:
        _read_until(process, "queueing: 23 checks")
        assert list(temporary.iterdir())
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not list(temporary.iterdir()), seconds(30), "the broker's end")
        assert process.stderr is not None
        for _ in range(5):
            process.send_signal(signal.SIGINT)
            said = process.stderr.readline()
            assert said.startswith("securemqtt: the board is being given back")
        process.communicate(timeout=seconds(60))
    assert process.returncode == 130
    wait_until(lambda: _starts(board) > starts, seconds(30), "the program's start")
    assert contents(board) == before
    assert selftest.report["broken_off"] == "interrupted"


def test_ctrl_c_while_the_program_ends_starts_it_again(
    selftest: Selftest, board: SimulatedBoard
) -> None:
    """The program takes its time to tidy up, so the tool still waits for the prompt."""
    slow = PROGRAM.replace(b"while True: time.sleep(1)", _TIDIES_UP)
    with Board(board.port) as link:
        write(link, "/main.py", slow)
        link.start_program()
    wait_until(lambda: _starts(board) == 1, seconds(30), "the program's start")
    with selftest.started(board) as process:
        board.wait_for_output(_TIDYING, seconds(30))
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=seconds(60))
    assert (process.returncode, error) == (130, "securemqtt: interrupted\n")
    wait_until(lambda: _starts(board) == 2, seconds(30), "the program's start")


def test_what_cannot_work_is_one_line(selftest: Selftest, simulated_board: SimulatedBoard) -> None:
    for options, said in (
        (["--report", "/dev/null/r"], "no report can be written in /dev/null/r: Not a directory"),
        (["--only", "everything"], "invalid choice: 'everything'"),
        (["--deadline", "1"], "must be a whole number from 10 to 3600 s"),
        ([], "the board does not reach its Wi-Fi: provision it first"),
    ):
        assert selftest.run(simulated_board, *options) == 1
        assert said in selftest.error
        assert len(selftest.error.splitlines()) == 1
    assert main(["provision", "selftest", "/dev/no-such-port"]) == 1


def test_an_address_that_is_not_this_machines_is_told(
    selftest: Selftest, board: SimulatedBoard
) -> None:
    before = contents(board)
    assert selftest.run(board, "--address", "192.0.2.77") == 1
    assert len(selftest.error.splitlines()) == 1
    assert "'192.0.2.77' is no address of this computer" in selftest.error
    assert not selftest.reports.exists()
    assert contents(board) == before


def test_a_report_that_cannot_be_written_is_told_first(
    selftest: Selftest, board: SimulatedBoard, tmp_path: Path
) -> None:
    """/proc takes no file, whoever asks."""
    selftest.reports = Path("/proc/self")
    assert selftest.run(board) == 1
    assert "no report can be written in /proc/self" in selftest.error
    assert "Board" not in selftest.out
    selftest.reports = tmp_path / "later"
    with selftest.started(board, *_only("queueing")) as process:
        _read_until(process, "Figures")
        (tmp_path / "later").rmdir()
        (tmp_path / "later").write_text("a file, where the report was to go")
        out, error = process.communicate(timeout=seconds(120))
    assert process.returncode == 1
    assert "the report is printed above instead" in error
    assert "| queueing | held |" in out
    assert '"scenario": "queueing"' in out


def test_the_report_tells_no_address_and_no_port() -> None:
    report = Report(datetime.now(timezone.utc))
    report.hide("10.0.0.1")
    said = "10.0.0.1:40337 ('10.0.0.1', 40338) [10.0.0.1]:40339 10.0.0.12 port 40340, 1.25.0, 7 kB"
    report.results.append(Result("connecting", "did not hold", what=said, log=[said]))
    for text in (report.as_json(), report.as_markdown()):
        assert text.count("BROKER:PORT ('BROKER', PORT) [BROKER]:PORT ADDRESS port PORT") == 2
        assert text.count("1.25.0, 7 kB") == 2
    json.loads(report.as_json())


def test_a_real_board_is_not_called_simulated() -> None:
    report = Report(datetime.now(timezone.utc))
    facts = Facts("Raspberry Pi Pico W with RP2040", (1, 26, 0), 6, 4096, 1 << 20, 0, True)
    report.describe_board(facts, {"platform": "rp2"})
    assert report.as_markdown().startswith("# securemqtt on Raspberry Pi Pico W with RP2040\n")
    assert "simulated |" not in report.as_markdown().replace("simulated | False |", "")


def test_the_page_counts_the_scenarios_that_are_run() -> None:
    docs, count = _TOOLS.parent / "docs", str(len(SCENARIOS))
    page = (docs / "works-or-not-shown.md").read_text()
    assert f"This runs {count} scenarios" in page
    for text in (page, (docs / "ARCHITECTURE.md").read_text()):
        said = re.findall(r"\d+ of the (\d+)\s+held|all (\d+) with it", text)
        assert said == [(count, ""), ("", count)]


def test_each_scenario_is_run_or_known_not_to_be() -> None:
    assert {path.stem for path in FILES.glob("*.py")} == {
        *("common", "asyncio_common", "asyncio_face"),
        *scenario_names(),
    }
    assert set(scenario_names()) == {*SCENARIOS, "busy", "threads", "refusing"}


def test_a_lack_of_memory_is_told_apart() -> None:
    for said in (
        {"error": "OutOfMemory"},
        {"error": "AssertionError", "log": ["warning connection lost: OutOfMemory: …"]},
        {"error": "NoReport", "traceback": "MemoryError: memory allocation failed"},
    ):
        assert outcome_of({"held": False, "log": [], **said}) == MEMORY
