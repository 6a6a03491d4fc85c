"""The Tab key, in real shells: what `securemqtt completion` prints is read by them as a user would
have it.
"""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from securemqtt_tools.cli import COMMANDS
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.requirements import require_program
from support.speed import seconds

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
    with Terminal([require_program(shell), *options], environment) as terminal:
        terminal.write(f"{setup}; echo re''ady\n")
        terminal.read_until("ready")
        terminal.write(f"echo one | securemqtt ca show gree{_TAB}")
        terminal.read_until("gree", "nhouse-1 ")
        terminal.write("--pem\n")
        terminal.read_until("BEGIN CERTIFICATE")


def test_without_authority_or_with_a_broken_one_there_are_no_ids(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "inventory.sqlite").write_bytes(b"no database")
    environment = {**environment, "SECUREMQTT_HOME": str(tmp_path)}
    line = "securemqtt broker grant "
    arguments = [require_program("bash"), "-c", _BASH_TAB, "bash", line]
    assert answer(arguments, environment, tmp_path) == []


class Terminal:
    """A shell on a pseudo-terminal, and somebody who types."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._main, other = pty.openpty()
        self._process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self._read = ""

    def write(self, text: str) -> None:
        """Type."""
        os.write(self._main, text.encode())

    def read_until(self, *texts: str) -> None:
        """Wait until the shell has shown these, one after the other."""
        deadline = time.monotonic() + ANSWER_S
        for text in texts:
            while text not in self._read:
                left = deadline - time.monotonic()
                ready, _, _ = select.select([self._main], [], [], max(0.0, left))
                assert ready, f"no {text!r} in {self._read!r}"
                self._read += os.read(self._main, 4096).decode(errors="replace")
            self._read = self._read.partition(text)[2]

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)
