"""What all commands have in common: help with examples, and a user's mistake is one line that says
where to look.
"""

from __future__ import annotations

import platform
import ssl
from importlib import metadata

import pytest

import securemqtt
from securemqtt_tools.cli import COMMANDS, main


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
