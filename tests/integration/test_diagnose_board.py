"""Promise 4 on a board: no Wi-Fi, and a clock as it is after power-on, on the simulated board with
the library as provisioning compiles it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import Line, mpremote, require_libfaketime, require_micropython
from support.identities.bundles import write_bundle
from support.interpreters.micropython import compiled_library, umqtt_directory
from support.speed import slowness

JOIN = """
import network, time
w = network.WLAN(network.STA_IF)
w.active(True)
w.connect('any', 'thing')
while not w.isconnected(): time.sleep_ms(10)
"""
IMPORT = """
from securemqtt import Client, log_to
log_to(lambda level, text: None)
client = Client(keep_alive_s=5)
"""
CONNECT = """
from securemqtt import Client, log_to
log_to(lambda level, text: None)
def told(error):
    print(type(error).__name__, error.transient, error)
client = Client(keep_alive_s=5)
try:
    client.connect()
    print("connected")
except Exception as error:
    told(error)
"""
LOSE = """
while not client.last_error:
    client.wait(1)
told(client.last_error)
"""


@pytest.fixture(scope="module")
def content(
    authority: Authority, broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Return what is to be copied to a board: the library, and a bundle that says nothing of Wi-Fi,
    nor of the time.
    """
    require_micropython()
    require_libfaketime()
    directory = tmp_path_factory.mktemp("board")
    library = compiled_library(directory / "lib")
    shutil.copytree(umqtt_directory() / "umqtt", library / "umqtt")
    return [
        library,
        write_bundle(
            directory / "secure",
            authority,
            "diagnosed-board",
            port=broker.port,
            host="127.0.0.1",
            board=True,
        ),
    ]


@pytest.fixture(scope="module")
def board(content: list[Path]) -> Iterator[SimulatedBoard]:
    """Run a board with the library and the bundle."""
    with SimulatedBoard() as running:
        mpremote(running, "fs", "cp", "-r", *map(str, content), ":/")
        yield running


@pytest.fixture
def line(board: SimulatedBoard) -> Iterator[Line]:
    """Return a line to the raw REPL of the board, just reset, within reach of its access point."""
    board.wifi(True)
    board.reset()
    with Line(board) as opened:
        opened.enter_raw_repl()
        yield opened


def test_no_wifi(line: Line) -> None:
    told = line.execute(CONNECT).decode()
    assert told.startswith("WiFiNotConnected True "), told
    assert "wifi.json" in told and "Likely cause: " in told and "--wifi NAME" in told


def test_wifi_that_turns_the_board_away(content: list[Path]) -> None:
    with SimulatedBoard(ssid="home", wifi_password="correct") as running:
        mpremote(running, "fs", "cp", "-r", *map(str, content), ":/")
        with Line(running) as opened:
            opened.enter_raw_repl()
            # What takes time on a slow machine, and is not what is timed below.
            assert opened.execute(IMPORT) == b""
            for ssid, password, what in (
                ("home", "wrong", "the Wi-Fi home does not take the password"),
                ("away", "correct", "no Wi-Fi of the name away is in range"),
            ):
                access = json.dumps({"ssid": ssid, "password": password})
                assert (
                    opened.execute(
                        f"with open('/secure/wifi.json', 'w') as file:\n    n = "
                        f"file.write({access!r})\n"
                    )
                    == b""
                )
                start = time.monotonic()
                told = opened.execute(CONNECT).decode()
                assert told.startswith(f"WiFiNotConnected True {what} ["), told
                # else it has waited, for 20 s, for a radio that had given up
                assert time.monotonic() - start < 16 + 2 * slowness()


def test_clock_after_power_on(line: Line) -> None:
    told = line.execute(JOIN + CONNECT).decode()
    assert told.startswith("ClockWrong True "), told
    assert "mpremote rtc --set" in told


def test_wifi_lost_within_the_session(board: SimulatedBoard, line: Line) -> None:
    now = time.gmtime()
    set_clock = f"import machine; machine.RTC().datetime({(*now[:3], now.tm_wday, *now[3:6], 0)})\n"
    told = line.execute(set_clock + JOIN + CONNECT).decode()
    assert told.strip() == "connected"
    board.wifi(False)
    told = line.execute(LOSE).decode()
    assert told.startswith("WiFiNotConnected True "), told
