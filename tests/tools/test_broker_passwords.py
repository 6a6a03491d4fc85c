"""The file of password hashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import securemqtt_tools
from securemqtt_tools.broker.passwords import (
    password_matches,
    read_hashes,
    remove_password,
    set_password,
)
from securemqtt_tools.cli import FatalError
from support.requirements import require_program
from support.speed import seconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.write_bytes(b"")
    return path


def test_the_right_password_fits_and_no_other(file: Path) -> None:
    password, other = set_password(file, "a"), set_password(file, "b")
    hashes = read_hashes(file)
    assert password_matches(hashes["a"], password)
    assert not password_matches(hashes["a"], other)
    assert not password_matches(hashes["a"], "")
    assert not password_matches(hashes["a"], None)
    assert not password_matches(hashes.get("c"), password)
    assert password not in file.read_text()


def test_passwords_are_long_and_differ(file: Path) -> None:
    passwords = {set_password(file, "a") for _ in range(20)}
    assert len(passwords) == 20
    assert min(map(len, passwords)) >= 32


def test_a_new_password_replaces_the_old_one(file: Path) -> None:
    old, new = set_password(file, "a"), set_password(file, "a")
    assert not password_matches(read_hashes(file)["a"], old)
    assert password_matches(read_hashes(file)["a"], new)


def test_remove(file: Path) -> None:
    set_password(file, "a")
    set_password(file, "b")
    assert remove_password(file, "a")
    assert not remove_password(file, "a")
    assert list(read_hashes(file)) == ["b"]


def test_an_id_cannot_add_a_line(file: Path) -> None:
    with pytest.raises(FatalError, match="no device id"):
        set_password(file, "a\nb:")


@pytest.mark.parametrize(
    "damaged", ["", "x", "$7$101$salt", "$6$101$AAAA$AAAA", "$7$x$AAAA$AAAA", "$7$101$!$AAAA"]
)
def test_damaged_hash_fits_nothing(damaged: str) -> None:
    assert not password_matches(damaged, "password")


def test_mosquitto_writes_the_same_format(file: Path) -> None:
    program = require_program("mosquitto_passwd")
    subprocess.run(
        [program, "-b", str(file), "a", "a password of a test"], check=True, timeout=seconds(20)
    )
    assert password_matches(read_hashes(file)["a"], "a password of a test")
    assert not password_matches(read_hashes(file)["a"], "another")


def test_writers_at_once_lose_nothing(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from securemqtt_tools.broker.passwords import "
        "set_password\n"
        "for n in range(10): set_password(Path(sys.argv[1]), f'{sys.argv[2]}-{n}')"
    )
    tools = str(Path(securemqtt_tools.__file__).parents[1])
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(file), name], env={"PYTHONPATH": tools})
        for name in "abc"
    ]
    assert [writer.wait(timeout=seconds(60)) for writer in writers] == [0, 0, 0]
    assert sorted(read_hashes(file)) == sorted(f"{name}-{n}" for name in "abc" for n in range(10))
