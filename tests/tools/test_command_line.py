"""What all commands have in common: help with examples, and a user's mistake is one line that says
where to look.
"""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import sys
from contextlib import nullcontext, suppress
from importlib import metadata
from pathlib import Path

import pytest

import securemqtt
from securemqtt_tools.cli import COMMANDS, main, warn
from securemqtt_tools.output import OutputError, whole_output, write_bytes
from securemqtt_tools.pki import Authority
from support.requirements import heeding_modes
from support.speed import seconds

_MAIN = "import sys; from securemqtt_tools.entry import main; sys.exit(main())"


@pytest.mark.parametrize("arguments", [[], ["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_has_examples(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "\n  securemqtt " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["certificates"], "invalid choice: 'certificates' (choose from "),
        (["ca"], "the following arguments are required: COMMAND (see securemqtt ca --help)"),
        (
            ["ca", "revoke"],
            "the following arguments are required: NAME|SERIAL (see securemqtt ca revoke --help)",
        ),
        (["broker", "grant", "hub", "king"], "invalid choice: 'king' (choose from "),
        (
            ["provision", "pico", "--id", "a", "--broker", "b"],
            "invalid choice: 'pico' (choose from ",
        ),
        (
            ["provision", "pico_w", "--id", "a", "--broker"],
            "argument --broker: expected one argument (see securemqtt provision --help)",
        ),
        (
            ["simboard", "wifi"],
            "the following arguments are required: state (see securemqtt simboard wifi --help)",
        ),
        (
            ["ca", "device", "one", "--passphrase", "a secret"],
            "unrecognized arguments: --passphrase (see securemqtt ca device --help)",
        ),
        (
            ["provision", "pico_w", "--id", "a", "--broker", "b", "--wifi-password", "a secret"],
            "unrecognized arguments: --wifi-password (see securemqtt provision --help)",
        ),
        (
            ["simboard", "run", "--wifi", "a secret"],
            "unrecognized arguments: --wifi (see securemqtt simboard run --help)",
        ),
        (["demo", "--eng", "amqtt"], "unrecognized arguments: --eng"),
        (
            ["ca", "device", "one", "--passphrase=secret"],
            "unrecognized arguments: --passphrase (see securemqtt ca device --help)",
        ),
        (
            ["ca", "list", "greenhouse"],
            "unrecognized arguments: greenhouse (see securemqtt ca list --help)",
        ),
        (["demo", "--engine", "vernemq"], "invalid choice: 'vernemq' (choose from "),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("securemqtt: ") and printed.err.count("\n") == 1
    assert complaint in printed.err
    assert "secret" not in printed.err


@pytest.mark.parametrize("by_option", [True, False], ids=["option", "environment"])
def test_a_home_may_begin_with_a_tilde(
    by_option: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No shell puts a directory in its place in --home=~/elsewhere, nor in a file of settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SECUREMQTT_HOME", "" if by_option else "~/elsewhere")
    assert main(["broker", "status", *(["--home=~/elsewhere"] if by_option else [])]) == 1
    assert f"there is no broker in {tmp_path / 'elsewhere'}" in capsys.readouterr().err
    assert main(["broker", "status", "--home=~nobody-of-this-name/x"]) == 1
    assert "there is no user whose home ~nobody-of-this-name/x" in capsys.readouterr().err


def test_a_warning_is_one_line_that_is_what_it_looks_like(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn("\x1b[2Jsomebody's\nname: securemqtt ca list")
    said = "securemqtt: warning: \\x1b[2Jsomebody's\\x0aname: securemqtt ca list\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("arguments", "command"), [(["--version"], None), (["--version"], "ca")])
def test_version_says_what_a_report_needs(
    arguments: list[str], command: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments, command)
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"securemqtt {securemqtt.__version__}"
    assert platform.python_version() in lines[1]
    assert lines[2] == ssl.OPENSSL_VERSION
    assert lines[3] == f"paho-mqtt {metadata.version('paho-mqtt')}"
    assert lines[4].startswith("Mosquitto ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["ca", "--help"], ["ca", "init", "--leave-keys-unencrypted"]],
    ids=" ".join,
)
@pytest.mark.parametrize("closed", [False, True], ids=["full", "pipe"])
def test_output_that_cannot_be_written_is_one_line_and_one_that_nobody_reads_is_no_fault(
    closed: bool, arguments: list[str], unbuffered: str, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe, Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *arguments],
            check=False,
            stdout=pipe if closed else full,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": unbuffered,
                "SECUREMQTT_HOME": str(tmp_path / "home"),
            },
            timeout=seconds(60),
        )
    lines = [line for line in done.stderr.splitlines() if "Making keys" not in line]
    full = ["securemqtt: cannot write the output: No space left on device"]
    assert (done.returncode, lines) == ((0, []) if closed else (1, full))


def test_a_command_comes_to_its_end_though_nobody_reads_what_it_says(tmp_path: Path) -> None:
    environment = {**os.environ, "SECUREMQTT_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    for arguments, wanted in ((["ca", "init", "--leave-keys-unencrypted"], 0), (["ca", "x"], 1)):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            done = subprocess.run(
                [sys.executable, "-c", _MAIN, *arguments],
                check=False,
                stdout=pipe,
                stderr=subprocess.PIPE,
                env=environment,
                timeout=seconds(60),
            )
        assert done.returncode == wanted and b"Broken pipe" not in done.stderr
    assert Authority.open(tmp_path / "ca").trust_anchors()


@pytest.mark.parametrize("binary", [False, True], ids=["text", "bytes"])
@pytest.mark.parametrize("closed", [False, True], ids=["full", "pipe"])
def test_output_that_goes_nowhere_keeps_no_file_open(
    closed: bool, binary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe, Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", pipe if closed else full)
        before = len(list(Path("/proc/self/fd").iterdir()))
        with nullcontext() if closed else pytest.raises(OutputError), whole_output():
            for _ in range(2):
                if binary:
                    write_bytes(b"here\n")
                else:
                    print("here")
                sys.stdout.flush()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        monkeypatch.undo()


def test_output_that_nobody_wants_is_no_fault() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", _MAIN, "--version"],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=seconds(60),
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [1, 2])
def test_a_command_does_its_work_though_a_stream_is_closed(tmp_path: Path, closed: int) -> None:
    home = tmp_path / "home"
    arguments = ["ca", "init", "--leave-keys-unencrypted", "--home", str(home)]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}>&-', "sh", sys.executable, "-c", _MAIN, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed == 2)
    assert (home / "ca" / "root.crt").exists()


def test_a_warning_that_nobody_can_get_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    warn("of nothing")
    full = Path("/dev/full").open("w")  # noqa: SIM115  (what is held back cannot be written)
    monkeypatch.setattr(sys, "stderr", full)
    warn("of nothing")
    monkeypatch.undo()
    with suppress(OSError):
        full.close()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("mosquitto", "said"),
    [("/bin/echo", "/bin/echo does not say its version"), ("/no/such", "cannot start /no/such")],
)
def test_a_mosquitto_that_fails_does_not_end_version(
    mosquitto: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECUREMQTT_MOSQUITTO", mosquitto)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert f"Mosquitto of unknown version: {said}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["broker", "status"],
        ["broker", "client-config", "pump-1", "--for", "mosquitto"],
        ["pub", "~/a", "x", "--as", "pump-1"],
        ["ca", "list"],
    ],
    ids=" ".join,
)
def test_what_this_user_may_not_look_into_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0)
    done = subprocess.run(
        [*heeding_modes(), sys.executable, "-c", _MAIN, *arguments, "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("securemqtt: ") and done.stderr.count("\n") == 1
    assert str(home) in done.stderr


def test_windows_itself_is_refused_in_words() -> None:
    """No Windows was there: this only says that it is one."""
    for program, wanted in (
        ("import os, sys, securemqtt_tools.cli as c; os.name = 'nt'; sys.exit(c.main(['ca']))", 1),
        ("import os, logging, random, threading, typing; os.name = 'nt'; import securemqtt", 1),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=seconds(60),
            check=False,
        )
        assert done.returncode == wanted
        assert "not on Windows itself: use" in done.stderr.splitlines()[-1]
