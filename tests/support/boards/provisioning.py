"""Provisioning in tests: the real command against a simulated board, and a look at what it left."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from securemqtt_tools.cli import main
from securemqtt_tools.pki import Authority
from securemqtt_tools.provision.board import files
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.simboard import SimulatedBoard
from support.interpreters.micropython import umqtt_directory

WIFI_PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both outputs."""
        return self.out + self.err

    def said(self, *words: str) -> bool:
        """Return True if all of these are in the one line of error."""
        line = self.err.strip()
        return (
            line.startswith("securemqtt: ")
            and "\n" not in line
            and all(word in line for word in words)
        )


class Provisioner:
    """The command `provision` with a home directory of its own."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[str], broker_port: int) -> None:
        self.home = home
        self.broker_port = broker_port
        self._capture = capture
        self._password = home / "wifi-password"
        self._password.write_text(WIFI_PASSWORD + "\n")
        self._password.chmod(0o600)
        shutil.copytree(umqtt_directory(), home / "cache" / "umqtt.simple")

    @property
    def authority(self) -> Authority:
        """The authority in that home."""
        return Authority.open(self.home / "ca")

    @property
    def wifi(self) -> list[str]:
        """The options that give a board its Wi-Fi."""
        return ["--wifi", "Farm", "--wifi-password-file", str(self._password)]

    def run(self, kind: str, device_id: str, *options: str, broker: str | None = None) -> Outcome:
        """Run `provision KIND --id … --broker …` with more options."""
        where = broker or f"localhost:{self.broker_port}"
        return self.command(kind, "--id", device_id, "--broker", where, *options)

    def command(self, *arguments: str) -> Outcome:
        """Run `provision` with these arguments in that home."""
        self._capture.readouterr()
        status = main([*arguments, "--home", str(self.home)], command="provision")
        return Outcome(status, *self._capture.readouterr())

    def board(
        self, board: SimulatedBoard, device_id: str, *options: str, broker: str | None = None
    ) -> Outcome:
        """Run it for a simulated board."""
        return self.run("simulated", device_id, "--port", board.port, *options, broker=broker)


def contents(board: SimulatedBoard) -> dict[str, str | None]:
    """Return every file on a board, and its hash. Its program is interrupted."""
    with Board(board.port) as link:
        return files.tree(link, "")


def read(board: SimulatedBoard, path: str) -> bytes:
    """Return the content of a file on a board. Its program is interrupted."""
    with Board(board.port) as link:
        return files.read(link, path)


def forms_of(key: bytes) -> list[bytes]:
    """Return the forms in which a P-256 key (PKCS 8 in DER) could have leaked: its secret bare, in
    hexadecimal, in base64.
    """
    secret = key[36:68]
    # 48: where a line of a PEM file begins
    return [secret, secret.hex().encode(), base64.b64encode(key[48:66])]


def files_holding(places: list[Path], needles: list[bytes]) -> list[Path]:
    """Return the files under `places` in which one of `needles` is found."""
    found = []
    for place in places:
        for folder, _, names in os.walk(place):
            for name in names:
                path = Path(folder, name)
                if path.is_file() and any(needle in path.read_bytes() for needle in needles):
                    found.append(path)
    return found
