"""The options as CPython alone can look at them: their page, their class, `help`, mypy."""

from __future__ import annotations

import os
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import securemqtt
from securemqtt.schema import OPTIONS, in_words
from securemqtt.settings import Settings
from support.documents.options_page import MODULE, PAGE, ROOT, module, page
from support.speed import seconds

_NAMES = [option[0] for option in OPTIONS]


def test_the_page_and_the_class_are_up_to_date() -> None:
    command = "run: python tests/support/documents/options_page.py"
    assert PAGE.read_text() == page(), command
    assert MODULE.read_text() == module(), command


def test_schema_class_and_settings_have_the_same_options() -> None:
    assert len(set(_NAMES)) == len(_NAMES)
    assert list(securemqtt.ClientOptions.__annotations__) == _NAMES
    assert set(Settings.__annotations__) == {*_NAMES, "path", "limits", "hosts", "hosts_tried"}
    assert securemqtt.ClientOptions.__optional_keys__ == set(_NAMES)


def test_each_option_says_what_it_is_and_what_it_may_be() -> None:
    for name, kind, default, allowed, unit, purpose in OPTIONS:
        assert purpose and purpose[0].islower() and not purpose.endswith("."), name
        words = in_words(kind, allowed, unit)
        assert words and (not unit or unit in words), name
        if kind in ("whole", "seconds") and default is not None:
            assert allowed[0] <= default <= allowed[1], name
        if name.endswith("_s"):
            assert unit == "s", name
        if name.endswith("_bytes"):
            assert unit == "bytes", name


@pytest.mark.parametrize("subject", [securemqtt.Client, securemqtt.ClientOptions])
def test_help_names_every_option(subject: type) -> None:
    shown = pydoc.plain(pydoc.render_doc(subject))
    words = set(shown.replace(",", " ").replace(":", " ").split())
    assert set(_NAMES) <= words
    assert "Unpack" in shown or subject is securemqtt.ClientOptions


def test_a_path_of_pathlibs_is_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"host": "h", "client_id": "c", "ca": "ca.crt"}')
    (tmp_path / "ca.crt").write_text("none")
    # Found, read, and its file looked at.
    with pytest.raises(securemqtt.errors.BundleError, match=r"ca\.crt"):
        securemqtt.Client(tmp_path).connect(1)


_HOW = ("--follow-imports=silent", "--python-version=3.10", "--config-file=")
_PROGRAM = """\
from pathlib import Path

from securemqtt import Client, ClientOptions

Client(host="x", client_id="y")
Client(Path("/secure"), ca=[Path("a"), "b"], outbox_dir=Path("o"), will=("~/gone", "bye", 1))
options: ClientOptions = {"port": 8884, "watchdog": None}
Client(**options)
Client(hots="x")
Client(port="8883")
Client(outbox="disk")
Client(5)
other: ClientOptions = {"prot": 8884}
"""


def test_a_type_checker_knows_the_options(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *_HOW, str(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds(100),
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT / "lib")},
    )
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.partition(": ")[0] for line in found] == [
        f"program.py:{number}" for number in (9, 10, 11, 12, 13)
    ], done.stdout + done.stderr
    assert '"hots"' in found[0] and '"prot"' in found[4]
