"""Draw the pictures of a terminal in docs/pictures: `make pictures`.

Each is what the commands really print, run here on a pseudo-terminal against a broker and devices
that are gone afterwards.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from securemqtt import Client
from securemqtt.testing import ThrowawayBroker, broker

PICTURES = Path(__file__).resolve().parents[3] / "docs" / "pictures"
_COMMAND = Path(sys.executable).with_name("securemqtt")
_COLUMNS = 100
_WAIT_S = 60


def draw(pictures: Path) -> None:
    """Draw all of them into a directory."""
    pictures.mkdir(exist_ok=True)
    with broker() as running, tempfile.TemporaryDirectory() as directory:
        _listen(running, Path(directory), pictures / "listen.svg")


def _listen(running: ThrowawayBroker, home: Path, picture: Path) -> None:
    """`securemqtt sub` while two boards report, and a command for one of them."""
    (home / "bundles").mkdir()
    (home / "bundles" / "me").symlink_to(running.bundle("me", role="operator"))
    boards = [Client(running.bundle(name)) for name in ("greenhouse-1", "cellar")]
    environment = {**os.environ, "SECUREMQTT_HOME": str(home), "COLUMNS": str(_COLUMNS)}
    said = "sub 'devices/#' --timestamps --count 6 --as me"
    listening = _Terminal(said, environment)
    with boards[0] as greenhouse, boards[1] as cellar:
        listening.wait_for("cellar/status")
        assert greenhouse.publish("~/reading", {"number": 1, "celsius": 23.4}).wait(_WAIT_S)
        assert cellar.publish("~/reading", {"number": 1, "celsius": 11.9}).wait(_WAIT_S)
        told = "pub devices/greenhouse-1/command/interval 5 --as you"
        (home / "bundles" / "you").symlink_to(running.bundle("you", role="operator"))
        speaking = _Terminal(told, environment)
        speaking.end()
        assert greenhouse.publish("~/reading", {"number": 2, "celsius": 23.5}).wait(_WAIT_S)
        listening.end()
    _draw(picture, "securemqtt sub, and pub in another terminal", [listening, speaking])


class _Terminal:
    """A command on a terminal of its own."""

    def __init__(self, arguments: str, environment: dict[str, str]) -> None:
        self.line = f"securemqtt {arguments}"
        self.text = ""
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["sh", "-c", f'exec "{_COMMAND}" {arguments}'],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color"},
        )
        os.close(theirs)
        self._deadline = time.monotonic() + _WAIT_S

    def wait_for(self, words: str) -> None:
        """Read on until the terminal shows these words."""
        while words not in self.text:
            assert self._read(), self.text

    def end(self) -> None:
        """Read until the command has ended; it must end well."""
        while self._read():
            pass
        os.close(self._ours)
        assert self._process.wait(_WAIT_S) == 0, self.text

    def _read(self) -> bool:
        assert time.monotonic() < self._deadline, self.text
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # nobody has the terminal open any more
            return False
        self.text += data.decode()
        return bool(data)


def _draw(picture: Path, title: str, terminals: list[_Terminal]) -> None:
    console = Console(
        record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    for terminal in terminals:
        console.print(Text("$ ", "bold green") + Text(terminal.line, "bold"))
        console.print(Text.from_ansi(terminal.text.replace("\r\n", "\n").rstrip()))
    drawn = console.export_svg(title=title, unique_id=picture.stem)
    # Without the fonts that rich would have the reader fetch from elsewhere.
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))


if __name__ == "__main__":
    draw(PICTURES)
