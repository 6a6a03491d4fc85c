"""Draw the pictures of a terminal in docs/pictures: `make pictures`.

Each is what the commands really print, run here on a pseudo-terminal against a broker and devices
that are gone afterwards.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from securemqtt import Client
from securemqtt.testing import ThrowawayBroker, broker
from support.terminal import Terminal

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
    environment = {**os.environ, "SECUREMQTT_HOME": str(home)}
    said = "securemqtt sub 'devices/#' --timestamps --count 6 --as me"
    with boards[0] as greenhouse, boards[1] as cellar, _run(said, environment) as listening:
        listening.wait_for("cellar/status")
        assert greenhouse.publish("~/reading", {"number": 1, "celsius": 23.4}).wait(_WAIT_S)
        assert cellar.publish("~/reading", {"number": 1, "celsius": 11.9}).wait(_WAIT_S)
        told = "securemqtt pub devices/greenhouse-1/command/interval 5 --as you"
        (home / "bundles" / "you").symlink_to(running.bundle("you", role="operator"))
        with _run(told, environment) as speaking:
            assert speaking.end() == 0, speaking.seen
        assert greenhouse.publish("~/reading", {"number": 2, "celsius": 23.5}).wait(_WAIT_S)
        assert listening.end() == 0, listening.seen
    shown = {said: listening.seen, told: speaking.seen}
    _draw(picture, "securemqtt sub, and pub in another terminal", shown)


def _run(line: str, environment: dict[str, str]) -> Terminal:
    return Terminal(
        ["sh", "-c", f'exec "{_COMMAND.parent}"/{line}'],
        _COLUMNS,
        **{**environment, "TERM": "xterm-256color"},
    )


def _draw(picture: Path, title: str, shown: dict[str, str]) -> None:
    """Draw commands and what each has printed."""
    console = Console(
        record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    for line, text in shown.items():
        console.print(Text("$ ", "bold green") + Text(line, "bold"))
        console.print(Text.from_ansi(text.replace("\r\n", "\n").rstrip()))
    drawn = console.export_svg(title=title, unique_id=picture.stem)
    # Without the fonts that rich would have the reader fetch from elsewhere.
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))


if __name__ == "__main__":
    draw(PICTURES)
