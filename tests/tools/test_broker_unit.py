"""The unit by which systemd runs `broker run`: it names what there is, and hides nothing of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.unit import BrokerUnit
from securemqtt_tools.pki import Authority
from support.speed import seconds

REPOSITORY = Path(__file__).parents[2]
OWN_TMP = "PrivateTmp=yes"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a broker of a kind that systemd runs by `broker run`; not root's."""
    authority = Authority.create(tmp_path / "home" / "ca", passphrase=None)
    BrokerConfig.create(
        tmp_path / "home" / "broker", authority, names=["localhost"], engine="rabbitmq"
    )
    home = tmp_path / "home"
    if os.geteuid() == 0:
        for one in (home, *home.rglob("*")):
            os.chown(one, 65534, 65534)
    return home


def installed(directory: Path) -> Path:
    """Install the command as `pip install --user` does: apart from its Python."""
    directory.mkdir()
    script = directory / "securemqtt"
    script.write_text(
        "import sys\nfrom securemqtt_tools.entry import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    return script


@pytest.mark.parametrize("clone", [False, True], ids=["apart from its Python", "in a clone"])
def test_the_command_that_it_names_is_there(home: Path, tmp_path: Path, clone: bool) -> None:
    python = Path(sys.base_prefix) / "bin" / "python3"
    if python.with_name("securemqtt").exists():
        pytest.skip(f"securemqtt is installed beside {python}")
    script = REPOSITORY / "tools" / "broker.py" if clone else installed(tmp_path / "bin")
    packages = (REPOSITORY / "lib", REPOSITORY / "tools", *filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages))}

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env=environment,
            cwd=script.parent,
            timeout=seconds(60),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    words = ("install", "--dry-run", "--home", home)
    unit = run(python, script.name, *(words if clone else ("broker", *words)))
    (start,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    command = shlex.split(start.removeprefix("ExecStart="))
    assert "run [-h]" in run(*command, "--help")


def lines(config: BrokerConfig, *command: str, home: str = "/srv/home") -> list[str]:
    """Return the lines of a unit."""
    unit = BrokerUnit("RabbitMQ", config, command, Path(home), "daemon", {})
    return unit.render().splitlines()


def test_what_lies_in_tmp_is_not_hidden(home: Path) -> None:
    config = BrokerConfig.open(home / "broker")
    used = (Path(sys.executable), Path(sys.executable).resolve(), REPOSITORY.resolve())
    ours = any(one.is_relative_to(place) for one in used for place in ("/tmp", "/var/tmp"))
    assert (OWN_TMP in lines(config, "/usr/bin/securemqtt", "broker", "run")) is not ours
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        link = Path(elsewhere, "link")
        link.symlink_to("/tmp/there")
        assert OWN_TMP not in lines(config, f"{link}/securemqtt", "broker")
        assert OWN_TMP not in lines(config, "/usr/bin/securemqtt", home=f"{link}/home")
    assert OWN_TMP not in lines(config, "/usr/bin/python3", "/tmp/bin/securemqtt", "broker")


def test_a_word_of_the_command_is_no_file_of_this_directory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BrokerConfig.open(home / "broker")
    command = ("/usr/bin/securemqtt", "broker", "run")
    before = lines(config, *command)
    monkeypatch.chdir(tmp_path)
    assert lines(config, *command) == before
