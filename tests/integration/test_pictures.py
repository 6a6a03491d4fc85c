"""The pictures of a terminal in docs/ can be drawn anew, and show what they are to show."""

from __future__ import annotations

import html
import re
from pathlib import Path

from support.documents.pictures import PICTURES, draw
from support.requirements import require_program


def _words(picture: Path) -> str:
    """Return what a picture says, with each number and time as 0."""
    text = html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", "", picture.read_text(), flags=re.S))
    return re.sub(r"\d+", "0", " ".join(text.split()))


def test_pictures_show_what_the_commands_print(tmp_path: Path) -> None:
    require_program("mosquitto")
    draw(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in PICTURES.iterdir()
    )
    for picture in PICTURES.iterdir():
        shown = _words(tmp_path / picture.name)
        # Two boards that begin at the same time have their say in either order.
        assert sorted(shown.split()) == sorted(_words(picture).split())
