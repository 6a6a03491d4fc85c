"""What goes wrong in provisioning a board: one clear line each, and a second run that finishes the
work.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import tty
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.check import STALE
from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.pki import Authority
from securemqtt_tools.profiles import load_profile
from securemqtt_tools.provision.board import ports, repl
from securemqtt_tools.provision.board.files import make_directories, write
from securemqtt_tools.resources import boards_directory
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import WIFI_PASSWORD, Provisioner, contents, read
from support.boards.simboard import require_micropython
from support.interpreters.micropython import umqtt_directory
from support.network.net import free_port
from support.speed import seconds


def test_the_wrong_board_is_named_with_the_right_profile(provisioner: Provisioner) -> None:
    require_micropython()
    with SimulatedBoard(profile="pico_w") as board:
        outcome = provisioner.run("esp32", "wrong", "--port", board.port, *provisioner.wifi)
        assert outcome.status == 1
        assert outcome.said(
            "'Raspberry Pi Pico W with RP2040'", "run again with pico_w in place of esp32"
        )
        assert contents(board) == {}


@pytest.mark.parametrize("where", ["facts", "failure", "odd"])
def test_what_a_board_says_is_shown_and_not_obeyed(provisioner: Provisioner, where: str) -> None:
    require_micropython()
    says = r"x\x1b]0;mine\x07\x1b[2J\r\nok Check: all is well\u202e"
    # The scripts print by json, which a file on the board can take the place of.
    hostile = {
        "facts": f"if isinstance(x,dict) and 'mpy' in x:x['machine']='{says} with ESP32-C3'",
        "failure": f"if isinstance(x,dict) and 'mpy' in x:raise ValueError('{says}')",
        "odd": f"if isinstance(x,dict) and 'mpy' in x:x['version']=['{says}',None]",
    }[where]
    with SimulatedBoard(profile="esp32_c3") as board:
        with repl.Board(board.port) as line:
            make_directories(line, ["/lib"])
            write(
                line,
                "/lib/json.py",
                f"from ujson import *\nimport ujson\ndef dumps(x):\n {hostile}\n "
                "return ujson.dumps(x)\n".encode(),
            )
            line.soft_reset()
        outcome = provisioner.run("esp32_c3", "mean", "--port", board.port, "--no-connect")
    assert all(text.isprintable() for text in outcome.text.split("\n"))
    assert not any(text.startswith("ok Check") for text in outcome.text.split("\n"))
    if where == "facts":
        assert r"x\x1b]0;mine\x07\x1b[2J\x0d\x0aok Check: all is well\u202e with" in outcome.out
    elif where == "failure":
        assert outcome.said("a script failed on the board", r"all is well\u202e")
    else:
        assert outcome.said("gave no sensible answer", "reset it and try again")


def test_a_port_that_is_not_there_or_no_serial_port(
    provisioner: Provisioner, tmp_path: Path
) -> None:
    outcome = provisioner.run("pico_w", "no-port", "--port", str(tmp_path / "ttyACM0"))
    assert outcome.said("there is no serial port", "mpremote devs")
    outcome = provisioner.run(
        "pico_w", "no-port", "--port", str(provisioner.home / "wifi-password")
    )
    assert outcome.said("is no serial port")


def test_a_port_in_use(provisioner: Provisioner, simulated_board: SimulatedBoard) -> None:
    with serial.Serial(simulated_board.port, exclusive=True):
        outcome = provisioner.board(simulated_board, "busy", *provisioner.wifi)
    assert (outcome.status, outcome.said("is in use by another program", "close it")) == (1, True)


def test_a_port_where_nothing_answers(
    provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repl, "_ATTEMPTS", 1)
    near, far = os.openpty()
    tty.setraw(far)
    try:
        outcome = provisioner.run("pico_w", "deaf", "--port", os.ttyname(far))
    finally:
        os.close(near)
        os.close(far)
    assert outcome.said("nothing at", "answers as MicroPython does", "reset button")


def test_boards_are_found_by_their_usb_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    pico = [
        SimpleNamespace(device=f"/dev/ttyACM{number}", vid=0x2E8A, pid=0x0005)
        for number in range(2)
    ]
    other = [
        SimpleNamespace(device="/dev/ttyUSB0", vid=0x067B, pid=0x2303),
        SimpleNamespace(device="/dev/ttyS0", vid=None, pid=None),
    ]
    profile = load_profile("pico_w")

    def find(*present: SimpleNamespace) -> str:
        monkeypatch.setattr(ports.list_ports, "comports", lambda: list(present))
        return ports.find_port(profile.usb_ids, profile.name)

    assert find(pico[1], *other) == "/dev/ttyACM1"
    with pytest.raises(
        FatalError,
        match="2 boards could be meant, on /dev/ttyACM0, /dev/ttyACM1: choose one with --port",
    ):
        find(*pico, *other)
    with pytest.raises(
        FatalError, match=r"no Raspberry Pi Pico W found on USB \(other devices: /dev/ttyUSB0\)"
    ):
        find(*other)
    with pytest.raises(FatalError, match="name its serial port with --port"):
        ports.find_port((), "Simulated board")


def test_a_board_without_room_is_left_as_it_is(
    provisioner: Provisioner,
    tmp_path: Path,
    authority: Authority,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require_micropython()
    text = (boards_directory() / "simulated.toml").read_text()
    small = tmp_path / "small.toml"
    small.write_text(text.replace("filesystem_bytes = 868352", f"filesystem_bytes = {16 * 4096}"))
    with SimulatedBoard(profile=str(small)) as board:
        outcome = provisioner.board(board, "no-room", *provisioner.wifi)
        assert outcome.said("no space on the board", "kB of flash", "mpremote fs rm")
        assert contents(board) == {}
    assert authority.inventory.entries("device", "no-room") == []


def test_a_wifi_password_is_tried_even_where_the_board_has_joined_by_another(
    provisioner: Provisioner,
) -> None:
    require_micropython()
    wrong = provisioner.home / "wrong"
    wrong.write_text("mistyped password")
    wrong.chmod(0o600)
    with SimulatedBoard(ssid="Farm", wifi_password=WIFI_PASSWORD) as board:
        assert provisioner.board(board, "moved", *provisioner.wifi).status == 0
        outcome = provisioner.board(
            board, "moved", "--wifi", "Farm", "--wifi-password-file", str(wrong)
        )
        assert outcome.status == 1
        assert outcome.said(
            "the board is set up but does not reach",
            "WiFiNotConnected",
            "the Wi-Fi Farm does not take the password",
        )
        assert provisioner.board(board, "moved", *provisioner.wifi).status == 0


def test_flash_that_fails(provisioner: Provisioner, simulated_board: SimulatedBoard) -> None:
    assert contents(simulated_board) == {}  # it has booted
    simulated_board.flash_failing(True)
    outcome = provisioner.board(simulated_board, "worn-out", *provisioner.wifi)
    assert (outcome.status, outcome.said("failed on the board", "OSError")) == (1, True)
    simulated_board.flash_failing(False)
    assert provisioner.board(simulated_board, "worn-out", *provisioner.wifi).status == 0


@pytest.mark.parametrize(
    "share", [0.0, 0.05, 0.5, 0.9, 0.95, 0.98], ids=lambda share: f"{share:.0%}"
)
def test_unplugged_half_way_a_second_run_finishes(
    provisioner: Provisioner, simulated_board: SimulatedBoard, share: float, worth: int
) -> None:
    device_id = f"unplugged-{share * 100:.0f}"
    assert contents(simulated_board) == {}  # it has booted, which writes, too
    simulated_board.power_cut_after(int(worth * share), half=True)
    outcome = provisioner.board(simulated_board, device_id, *provisioner.wifi, "--no-connect")
    simulated_board.wait_for_power_cut()
    assert (
        outcome.status,
        outcome.said("went away", "plug it in", "run the same command again"),
    ) == (1, True), outcome.text
    simulated_board.power_on()
    outcome = provisioner.board(simulated_board, device_id, *provisioner.wifi)
    assert outcome.status == 0 and f"{device_id} is ready" in outcome.out
    held = contents(simulated_board)
    assert not [path for path in held if path.endswith((".new", "claim.json"))]
    config = json.loads(read(simulated_board, "/secure/config.json"))
    keys = [path for path in held if path.endswith(".key.der")]
    assert keys == [f"/secure/{config['key']}"]
    assert "nothing to change" in provisioner.board(simulated_board, device_id).out


@pytest.fixture(scope="module")
def worth(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Count the operations of the flash that a whole run on an empty board takes, about."""
    require_micropython()
    home = tmp_path_factory.mktemp("home")
    Authority.create(home / "ca", passphrase=None)
    (home / "cache").mkdir()
    (home / "cache" / "umqtt.simple").symlink_to(umqtt_directory())
    with SimulatedBoard() as board:
        before = board.stats().operations
        arguments = [
            "--home",
            str(home),
            "--id",
            "counter",
            "--broker",
            "localhost",
            "--no-connect",
        ]
        assert main(["simulated", "--port", board.port, *arguments], command="provision") == 0
        return board.stats().operations - before


def test_a_broker_that_the_board_does_not_reach(
    provisioner: Provisioner, simulated_board: SimulatedBoard
) -> None:
    outcome = provisioner.board(
        simulated_board, "cut-off", *provisioner.wifi, broker=f"localhost:{free_port()}"
    )
    assert outcome.status == 1
    assert outcome.said("set up but does not reach", "ConnectionRefused", "What to do:")
    outcome = provisioner.board(simulated_board, "cut-off", broker="broker.invalid")
    assert outcome.said("set up but does not reach", "NameNotResolved", "What to do:")
    simulated_board.set_hosts({"other.name": "127.0.0.1"})
    outcome = provisioner.board(
        simulated_board, "cut-off", broker=f"other.name:{provisioner.broker_port}"
    )
    assert outcome.said("HostNameMismatch", "What to do: provision again by a name that it lists")
    for names, remedy in (
        (["localhost"], "your own broker is localhost: run this again with --broker localhost"),
        (["other.name", "localhost"], f"; {STALE}"),
    ):
        BrokerConfig.create(
            provisioner.home / "broker",
            provisioner.authority,
            names=names,
            port=provisioner.broker_port,
        )
        outcome = provisioner.board(
            simulated_board, "cut-off", broker=f"other.name:{provisioner.broker_port}"
        )
        assert outcome.err.splitlines()[-1].endswith(remedy)
    outcome = provisioner.board(simulated_board, "cut-off")
    assert outcome.status == 0 and "certificate: good" in outcome.out


def test_ctrl_c_on_this_computer_starts_the_board_s_program_again(
    provisioner: Provisioner, simulated_board: SimulatedBoard
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(seconds(60))
        arguments = [
            "simulated",
            "--id",
            "given-up",
            "--broker",
            f"localhost:{silent.getsockname()[1]}",
        ]
        arguments += [
            "--port",
            simulated_board.port,
            "--home",
            str(provisioner.home),
            *provisioner.wifi,
        ]
        command = [
            sys.executable,
            str(Path(__file__).parents[2] / "tools" / "provision.py"),
            *arguments,
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            try:
                first, _ = silent.accept()  # the board, from the test of its connection
                program.send_signal(signal.SIGINT)
                _, complaint = program.communicate(timeout=seconds(60))
            finally:
                program.kill()
        assert (program.returncode, complaint) == (130, "securemqtt: interrupted\n")
        second, _ = silent.accept()  # the board, from its main.py
        first.close()
        second.close()


def test_ctrl_c_again_and_again_does_not_keep_the_program_from_its_start(
    provisioner: Provisioner, simulated_board: SimulatedBoard
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(seconds(60))
        words = [sys.executable, str(Path(__file__).parents[2] / "tools" / "provision.py")]
        words += ["simulated", "--id", "struck", "--port", simulated_board.port]
        words += ["--broker", f"localhost:{silent.getsockname()[1]}"]
        words += ["--home", str(provisioner.home), *provisioner.wifi]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            try:
                first, _ = silent.accept()  # the board, from the test of its connection
                while program.poll() is None:
                    program.send_signal(signal.SIGINT)
                    with suppress(subprocess.TimeoutExpired):
                        program.wait(0.1)  # as fast as somebody presses keys
                complaint = program.communicate(timeout=seconds(60))[1]
            finally:
                program.kill()
        assert program.returncode in (130, -signal.SIGINT)  # the latter as Python itself ends
        assert "securemqtt: the board is being given back" in complaint
        second, _ = silent.accept()  # the board, from its main.py
        first.close()
        second.close()


def test_a_wifi_password_is_asked_for_when_nothing_cheap_is_wrong(
    provisioner: Provisioner,
    simulated_board: SimulatedBoard,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return WIFI_PASSWORD

    monkeypatch.setattr(getpass, "getpass", answer)  # who sits at the terminal
    wifi, port = ("--wifi", "Farm"), ("--port", simulated_board.port)
    authority.issue_device("taken-already")
    for outcome in (
        provisioner.run("simulated", "asked", *wifi, "--port", "/dev/tty-none"),
        provisioner.run("esp32", "asked", *wifi, *port),
        provisioner.run("simulated", "taken-already", *wifi, *port),
        provisioner.run("simulated", "asked", "--wifi", "x" * 33, *port),
    ):
        assert (outcome.status, asked) == (1, []), outcome.text
    outcome = provisioner.run("simulated", "asked", *wifi, *port)
    assert outcome.status == 0, outcome.text
    assert asked == ["Password of the Wi-Fi Farm (empty: an open network): "]


def test_a_board_that_knows_no_wifi(
    provisioner: Provisioner, simulated_board: SimulatedBoard, authority: Authority
) -> None:
    outcome = provisioner.board(simulated_board, "airless")
    assert outcome.said("knows no Wi-Fi yet", "--wifi SSID")
    assert authority.inventory.entries("device", "airless") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--id", "a/b", "--broker", "h"], "'a/b' is no device id"),
        (["--id=-a", "--broker", "h"], "'-a' is no device id"),
        (["--id", "a", "--broker", "h:0"], "the broker's port must be a number"),
        (["--id", "a", "--broker", "not a host"], "neither a host name nor an IP address"),
        (
            ["--id", "a", "--broker", "h", "--keep-alive", "3"],
            "argument --keep-alive: must be a whole number from 5 to 65535 s, not '3'",
        ),
        (
            ["--id", "a", "--broker", "h", "--certificate-days", "99999999999"],
            "argument --certificate-days: must be a whole number from 1 to 36500 days",
        ),
        (["--id", "a", "--broker", "h:²"], "the broker's port must be a number"),
        (["--id", "a", "--broker", "h:" + "1" * 5000], "the broker's port must be a number"),
        (["--id", "a", "--broker", "h", "--out", "d"], "--out is for a Raspberry Pi only"),
        (
            ["--id", "a", "--broker", "h", "--main", "/nonexistent.py"],
            "there is no program /nonexistent.py",
        ),
        (["--id", "a", "--broker", "h", "--wifi-password-file", "f"], "needs --wifi SSID"),
    ],
)
def test_options_that_make_no_sense(
    provisioner: Provisioner, options: list[str], words: str
) -> None:
    outcome = provisioner.command("pico_w", *options)
    assert (outcome.status, outcome.said(words)) == (1, True)
