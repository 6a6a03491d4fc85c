"""What all commands have in common: help with examples, and a user's mistake is one line that says
where to look.
"""

from __future__ import annotations

import pytest

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
