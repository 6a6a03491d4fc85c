"""What the commands say to people: the command as they have it, what they probably meant, in as
many columns as there are, and nothing that a stranger wrote as it is.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.cli import COMMANDS, FatalError, main
from securemqtt_tools.naming import Naming, closest
from securemqtt_tools.pki import Authority
from securemqtt_tools.provision.destination import parse_broker
from securemqtt_tools.simboard import SimulatedBoard
from support.speed import seconds
from support.terminal import CTRL_D, Terminal

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "tools").glob("[!_]*.py") if path.stem in COMMANDS)
_INSTALLED = re.compile(rf"(?<![\w./])securemqtt ({'|'.join(COMMANDS)})\b")
_COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;\d+)*m")
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def script(name: str) -> str:
    """Return the path of a command's script."""
    return str(ROOT / "tools" / f"{name}.py")


def run(*command: str | bytes, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds(60), check=False, cwd=where
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a home with an authority, a broker that does not run, and some certificates."""
    home = tmp_path_factory.mktemp("home")
    authority = Authority.create(home / "ca", passphrase=None)
    for device_id in ("greenhouse-1", "greenhouse-2"):
        authority.issue_device(device_id)
    authority.issue_server(["mqtt.example.org"])
    BrokerConfig.create(
        home / "broker", authority, names=["localhost"], port=0, roles={"hub": "operator"}
    )
    return home


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_a_clone_names_scripts(name: str) -> None:
    done = run(sys.executable, script(name), "--help")
    assert done.returncode == 0
    assert not _INSTALLED.search(done.stdout), done.stdout
    assert re.search(rf"^ *python3? tools/{name}\.py\b", done.stdout, re.MULTILINE)


def test_a_script_names_the_next_one_from_wherever_it_is_called(home: Path, tmp_path: Path) -> None:
    done = run(sys.executable, script("broker"), "run", "--home", str(tmp_path))
    assert re.search(r"run python3? tools/broker\.py init\n$", done.stderr), done.stderr
    done = run(sys.executable, script("broker"), "run", "--home", str(tmp_path), where=tmp_path)
    assert done.stderr.endswith(f" {script('broker')} init\n")
    done = run(sys.executable, script("ca"), "show", "nobody", "--home", str(home))
    assert "tools/ca.py list shows" in done.stderr
    done = run(sys.executable, script("broker"), "status", "--home", str(home))
    assert "tools/broker.py run starts it" in done.stdout
    done = run(sys.executable, script("provision"), "selftest")
    assert re.search(r"see python3? tools/provision\.py selftest --help", done.stderr)


def test_where_it_is_installed_it_is_named_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", "run", "--home", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith(": run securemqtt broker init\n")


def test_what_is_not_on_the_path_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naming = Naming(COMMANDS)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/securemqtt"])
    said = 'run securemqtt ca init; sudo "$(which securemqtt)" broker install; securemqtt.json'
    assert naming.as_called(said) == (
        "run .venv/bin/securemqtt ca init; sudo .venv/bin/securemqtt broker install; "
        "securemqtt.json"
    )
    (tmp_path / "securemqtt").touch(mode=0o755)
    assert naming.as_called(said) == said


def test_a_command_without_a_script_is_that_of_the_clone_s_environment() -> None:
    naming = Naming(COMMANDS)
    naming.scripts = ROOT / "tools"
    assert naming.as_called("securemqtt sub '#'").endswith(".venv/bin/securemqtt sub '#'")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["provison"], "provision"),
        (["Broker"], "broker"),
        (["broker", "instal"], "install"),
        (["broker", "grant", "hub", "operater"], "operator"),
        (["provision", "pico", "--id", "a", "--broker", "b"], "pico_w"),
        (["provision", "pico_w", "--id", "a", "--brokr", "b"], "--broker"),
        (["ca", "device", "one", "--passphrase", "a secret"], "--passphrase-file"),
        (["demo", "--engin", "amqtt"], "--engine"),
    ],
)
def test_what_was_probably_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert f"did you mean {meant}?" in said and said.count("\n") == 1
    assert "secret" not in said


def test_an_id_that_was_probably_meant(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ca", "revoke", "greenhouse1", "--home", str(home)]) == 1
    assert "(did you mean greenhouse-1?)" in capsys.readouterr().err
    assert main(["ca", "revoke", "pump", "--home", str(home)]) == 1
    assert "did you mean" not in capsys.readouterr().err


def test_nothing_is_guessed_from_far_away() -> None:
    assert closest("xyz", COMMANDS) is None
    assert closest("", COMMANDS) is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("mqtts://mqtt.local", ("mqtt.local", None)),
        ("mqtts://mqtt.local:8884", ("mqtt.local", 8884)),
        ("MQTTS://mqtt.local:8884/", ("mqtt.local", 8884)),
        ("mqtts://[::1]:8884", ("::1", 8884)),
        ("mqtt.local:8884", ("mqtt.local", 8884)),
    ],
)
def test_a_broker_s_address_may_be_a_url(text: str, where: tuple[str, int | None]) -> None:
    assert parse_broker(text) == where


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mqtt://mqtt.local", "mqtt:// goes without TLS"),
        ("wss://mqtt.local:8884/mqtt", "wss:// is not for this"),
        ("mqtts://me:hunter2@mqtt.local", "takes no user name or password"),
        ("mqtts://mqtt.local/topic", "the broker's port must be|neither a host name"),
        ("mqtts://", "neither a host name"),
    ],
)
def test_a_url_that_is_not_for_it(text: str, why: str) -> None:
    with pytest.raises(FatalError, match=why) as caught:
        parse_broker(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["ca", "broker", "provision", "simboard", "demo", "service"])
def test_help_fits_into_sixty_columns(name: str) -> None:
    command = [sys.executable, script(name), "--help"]
    with Terminal(command, 60, TERM="xterm", NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    lines = terminal.seen.splitlines()
    # a command that is to be copied stays in one piece, and so does an option of argparse's usage
    whole = re.compile(r" *\[-|.*(tools|\.venv)/")
    assert [line for line in lines if len(line) > 60 and not whole.match(line)] == []


def test_the_inventory_fits_into_sixty_columns(home: Path) -> None:
    command = [sys.executable, script("ca"), "list", "--home", str(home)]
    with Terminal(command, 60, TERM="xterm") as terminal:
        assert terminal.end() == 0
    lines = _CODES.sub("", terminal.seen).splitlines()
    assert max(map(len, lines)) <= 60
    for subject in ("greenhouse-1", "mqtt.example.org", "localhost"):
        assert [line for line in lines if re.match(rf"{subject} .* \d{{4}}-\d\d-\d\d ", line)]


@pytest.mark.parametrize("no_color", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [["ca", "list"], ["provision", "pico_w", "--id", "a", "--broker", "b", "--port", "/nowhere"]],
    ids=" ".join,
)
def test_no_color_is_obeyed(arguments: list[str], no_color: str, home: Path) -> None:
    command = [sys.executable, script(arguments[0]), *arguments[1:], "--home", str(home)]
    with Terminal(command, 80, TERM="xterm-256color", NO_COLOR=no_color) as terminal:
        terminal.end()
    assert bool(_COLOUR.search(terminal.seen)) == (not no_color), terminal.seen


def test_ctrl_d_at_a_question_is_a_no() -> None:
    program = (
        "from securemqtt_tools.commands.broker_common import confirmed\n"
        "print('answer:', confirmed('Go on?'))"
    )
    tools = f"{ROOT / 'tools'}:{ROOT / 'lib'}"
    with Terminal([sys.executable, "-c", program], PYTHONPATH=tools) as terminal:
        terminal.answer("Go on? [y/N] ", CTRL_D)
        assert terminal.end() == 0
    assert terminal.seen.endswith("\r\nanswer: False\r\n")


def test_ctrl_d_at_the_wi_fi_s_password_is_one_line(
    home: Path, simulated_board: SimulatedBoard
) -> None:
    options = ["--id", "a", "--broker", "b", "--wifi", "Farm", "--home", str(home)]
    options += ["--port", simulated_board.port]
    with Terminal([sys.executable, script("provision"), "simulated", *options]) as terminal:
        terminal.answer("(empty: an open network): ", CTRL_D)
        assert terminal.end() == 1
    assert terminal.seen.endswith("\r\nsecuremqtt: nothing was entered, so nothing was done\r\n")


_UNREADABLE = [b"\xff\xfe", b"a\x1b[2Jb", b"a\nsecuremqtt: b", "\u0085x".encode(), b"\x7f"]


@pytest.mark.parametrize("device_id", _UNREADABLE, ids=repr)
@pytest.mark.parametrize(
    "command",
    [
        ("ca", "device", "ID"),
        ("ca", "revoke", "ID"),
        ("ca", "show", "ID"),
        ("ca", "list", "ID"),
        ("broker", "grant", "ID", "operator"),
        ("broker", "grant", "hub", "ID"),
        ("broker", "password", "ID", "--remove"),
        ("broker", "client-config", "ID", "--for", "mosquitto"),
        ("provision", "pico_w", "--id", "ID", "--broker", "b"),
        ("provision", "pico_w", "--id", "a", "--broker", "ID"),
        ("provision", "ID", "--id", "a", "--broker", "b"),
        ("pub", "--as", "ID", "~/a", "x"),
        ("broker", "--ID"),
    ],
    ids=" ".join,
)
def test_an_unreadable_id_is_echoed_safely(
    command: tuple[str, ...], device_id: bytes, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    word = os.fsdecode(device_id)
    arguments = [part.replace("ID", word) for part in command]
    assert main([*arguments, *(["--home", str(home)] if len(command) > 2 else [])]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("securemqtt: ") and err[:-1].isprintable(), err


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("broker install", "broker"),
        ("broker status", "broker"),
        ("broker reload", "broker"),
        ("broker init", "certificate authority"),
        ("ca list", "certificate authority"),
        ("ca revoke greenhouse-1", "certificate authority"),
    ],
)
def test_who_forgets_home_behind_sudo_is_told_of_it(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    kind: str,
) -> None:
    """Else who obeys makes a second authority, as root."""
    pi = tmp_path / "home of" / "pi"
    pi.mkdir(parents=True)
    # The system's users are not ours to make.
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_dir=str(pi)))
    monkeypatch.setenv("SUDO_USER", "pi")
    words = [*command.split(), "--home", str(tmp_path / "root")]
    assert main(words) == 1
    assert "did you mean" not in capsys.readouterr().err  # pi has nothing either
    (pi / ".securemqtt").symlink_to(home)
    assert main(words) == 1
    directory = tmp_path / "root" / ("broker" if kind == "broker" else "ca")
    assert capsys.readouterr().err == (
        f"securemqtt: there is no {kind} in {directory}: did you mean --home '{pi}/.securemqtt'?\n"
    )
    monkeypatch.delenv("SUDO_USER")
    assert main(words) == 1
    assert "did you mean" not in capsys.readouterr().err
