"""The Tab key, in real shells: what `securemqtt completion` prints is read by them as a user would
have it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from securemqtt_tools.cli import COMMANDS
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.requirements import require_program
from support.speed import seconds
from support.terminal import Terminal

_MAIN = "import sys; from securemqtt_tools.entry import main; sys.exit(main())"
_TAB = "\t"
ANSWER_S = seconds(20)
# What bash itself does when Tab is pressed, but for the terminal.
_BASH_TAB = """
compopt() { :; }
source <(securemqtt completion bash)
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete securemqtt
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of somebody who has an authority, and bundles of a few ids."""
    directory = tmp_path_factory.mktemp("desk")
    home = directory / "home"
    authority = Authority.create(home / "ca", name="desk", passphrase=None)
    for name in ("hub", "me"):
        write_bundle(home / "bundles" / name, authority, name, port=8883)
    authority.issue_device("greenhouse-1")
    authority.issue_server(["mqtt.local"])
    program = directory / "bin" / "securemqtt"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{_MAIN}" "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ,
        "HOME": str(directory),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "SECUREMQTT_HOME": str(home),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def answer(arguments: list[str], environment: dict[str, str], directory: Path) -> list[str]:
    """Return the lines that a program prints."""
    done = subprocess.run(
        arguments,
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("securemqtt ", list(COMMANDS)),
        ("securemqtt s", ["sub", "simboard", "selftest", "service"]),
        (
            "securemqtt ca re",
            ["recover", "renew", "renew-intermediate", "replace-intermediate", "revoke"],
        ),
        ("securemqtt pub --as ", ["hub", "me"]),
        ("securemqtt pub --as=h", ["hub"]),
        ("securemqtt pub --home ~/none --as ", []),
        ("securemqtt pub --reta", ["--retain"]),
        ("securemqtt pub devices/g", ["devices/greenhouse-1/"]),
        ("securemqtt sub --json 'devices/+", ["devices/+/"]),
        ("securemqtt sub -t devices/m", ["devices/me/"]),
        ("securemqtt ca revoke ", ["greenhouse-1", "hub", "me", "mqtt.local"]),
        ("securemqtt broker grant greenhouse-1 ", ["operator", "monitor", "device"]),
        ("securemqtt broker grant g", ["greenhouse-1"]),
        ("securemqtt provision pico_w --id ", ["greenhouse-1", "hub", "me"]),
        ("securemqtt broker client-config gr", ["greenhouse-1"]),
        ("securemqtt broker client-config me --for node", ["node-red"]),
        ("securemqtt completion ", ["bash", "zsh", "fish"]),
        ("securemqtt pub '~/a' --file not", ["notes.txt"]),
        ("securemqtt pub '~/a' not", []),  # a message, no file
    ],
)
def test_bash_completes(
    line: str, expected: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    bash = require_program("bash")
    found = answer([bash, "-c", _BASH_TAB, "bash", line], environment, tmp_path)
    assert sorted(found) == sorted(expected)


def test_fish_completes(environment: dict[str, str], tmp_path: Path) -> None:
    fish = require_program("fish")
    script = "securemqtt completion fish | source; complete -C 'securemqtt pub --as '"
    assert answer([fish, "--no-config", "-c", script], environment, tmp_path) == ["hub", "me"]


@pytest.mark.parametrize(
    ("shell", "options", "setup"),
    [
        ("bash", ("--noprofile", "--norc", "-i"), 'eval "$(securemqtt completion bash)"'),
        (
            "zsh",
            ("-f", "-i"),
            'autoload -U compinit && compinit -D -u && eval "$(securemqtt completion zsh)"',
        ),
    ],
)
def test_tab_is_pressed(
    shell: str, options: tuple[str, ...], setup: str, environment: dict[str, str]
) -> None:
    with Terminal([require_program(shell), *options], **environment) as terminal:
        terminal.type(f"{setup}; echo re''ady\n")
        terminal.wait_for("ready")
        terminal.type(f"echo one | securemqtt ca show gree{_TAB}")
        terminal.wait_for("gree", "nhouse-1 ")
        terminal.type("--pem\n")
        terminal.wait_for("BEGIN CERTIFICATE")


def test_without_authority_or_with_a_broken_one_there_are_no_ids(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "inventory.sqlite").write_bytes(b"no database")
    environment = {**environment, "SECUREMQTT_HOME": str(tmp_path)}
    line = "securemqtt broker grant "
    arguments = [require_program("bash"), "-c", _BASH_TAB, "bash", line]
    assert answer(arguments, environment, tmp_path) == []


def test_a_directory_with_a_name_that_no_id_has_is_left_out(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("plain", "\x1b[2Jwipe", "turned\u202e", "a+b"):
        bundle = tmp_path / "bundles" / name
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text("{}")
    environment = {**environment, "SECUREMQTT_HOME": str(tmp_path)}
    arguments = [require_program("bash"), "-c", _BASH_TAB, "bash", "securemqtt pub --as "]
    assert answer(arguments, environment, tmp_path) == ["plain"]
