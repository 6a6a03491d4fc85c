"""A broker in the foreground whose directory becomes another one while it runs: nobody who was
revoked gets in by that, and no other process is taken for the broker.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.broker.lock import holding, running
from securemqtt_tools.broker.mosquitto.log import RELOADED
from securemqtt_tools.cli import FatalError
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.mqtt import Peer, client_context
from support.requirements import require_program
from support.speed import seconds

ENGINES = pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path / "home", capsys)


def run(home: Home, engine: str) -> AbstractContextManager[subprocess.Popen[str]]:
    if engine == "mosquitto":
        require_program("mosquitto")
    return broker_run(home.directory, "--engine", engine)


def copy(source: Path, target: Path) -> None:
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns("socket", "run.lock"), dirs_exist_ok=True
    )


def last_words(process: subprocess.Popen[str]) -> str:
    """Wait until it has ended by itself; return its last line."""
    _, err = process.communicate(timeout=seconds(30))
    assert process.returncode == 1
    return err.splitlines()[-1]


@ENGINES
def test_a_broker_whose_directory_is_replaced_ends_and_the_revoked_stays_out(
    home: Home, tmp_path: Path, engine: str
) -> None:
    """The whole home comes from a backup of before the revocation."""
    thief = home.credentials("thief")
    copy(home.directory, tmp_path / "backup")
    home.good("ca", "revoke", "thief")
    with run(home, engine) as process:
        home.directory.rename(tmp_path / "old")
        copy(tmp_path / "backup", home.directory)
        said = last_words(process)
    assert "was replaced while the broker ran" in said
    assert "crl.pem is older, CRL" in said
    for command in (
        ("broker", "reload"),
        ("ca", "crl"),
        ("broker", "init", "localhost", "--force"),
    ):
        assert "crl.newest.pem holds CRL" in home.bad(*command)
    assert "Taken over: revocations: 1" in home.good("ca", "recover")
    assert not (home.broker / "crl.newest.pem").exists()
    home.good("ca", "list")
    with run(home, engine):
        assert not home.lets_in("thief", thief)


@ENGINES
def test_a_backup_that_is_copied_over_the_running_broker_is_not_taken_up(
    home: Home, tmp_path: Path, engine: str
) -> None:
    """Its directory stays the same one, so that the broker goes on with what it has read."""
    if engine == "mosquitto":
        require_program("mosquitto")
    thief, pump = home.credentials("thief"), home.credentials("pump")
    copy(home.broker, tmp_path / "backup")
    with BrokerProcess(home.broker, engine=engine) as broker:
        home.good("ca", "revoke", "thief")
        broker.reload()
        context = client_context(home.broker / "ca.pem", pump)
        with Peer(home.port, context) as peer:
            peer.connect("pump")
            copy(tmp_path / "backup", home.broker)
            for take_up in (broker.end_tls_sessions, broker.reload, broker.restart):
                with pytest.raises(FatalError, match=r"is older, CRL \d+, than what the running"):
                    take_up()
                assert not home.lets_in("thief", thief)
            assert "Note" not in home.good("broker", "reload")
            broker.reload()
            assert not home.lets_in("thief", thief)
            assert peer.drain() == []


@ENGINES
def test_a_link_that_leads_elsewhere_ends_the_broker(
    home: Home, tmp_path: Path, engine: str
) -> None:
    real = home.directory.rename(tmp_path / "disk")
    home.directory.symlink_to(real)
    copy(real, tmp_path / "backup")
    with run(home, engine) as process:
        home.directory.unlink()
        home.directory.symlink_to(tmp_path / "backup")
        assert "was replaced, or its run.lock removed" in last_words(process)


def test_the_directory_is_looked_at_before_a_signal_is_obeyed(home: Home, tmp_path: Path) -> None:
    copy(home.directory, tmp_path / "backup")
    with run(home, "mosquitto") as process:
        home.directory.rename(tmp_path / "old")
        copy(tmp_path / "backup", home.directory)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=seconds(30))
    assert "eloaded" not in out and "estarted" not in out
    assert "was replaced, or its run.lock removed, while" in err.splitlines()[-1]


def test_what_waits_for_a_device_moves_with_the_directory(home: Home, tmp_path: Path) -> None:
    """What the broker has acknowledged is not lost because somebody gave its home another name."""
    hub = home.credentials("hub")
    context = client_context(home.broker / "ca.pem", hub)
    topic = "devices/hub/x"
    with run(home, "mosquitto") as process:
        with Peer(home.port, context) as peer:
            peer.connect("hub", clean=False)
            peer.subscribe(topic)
            peer.disconnect()
        with Peer(home.port, context) as peer:
            peer.connect("hub", clean=False)
            peer.publish(topic, b"kept")
            peer.drop()
        home.directory.rename(tmp_path / "moved")
        assert "was moved away while the broker ran" in last_words(process)
    (tmp_path / "moved").rename(home.directory)
    with run(home, "mosquitto"), Peer(home.port, context) as peer:
        assert peer.connect("hub", clean=False) is True
        assert peer.receive() == (topic, b"kept")


def test_a_lock_file_from_a_backup_names_nobody(home: Home) -> None:
    """Copied over a running broker's: the number in it may be any process's by now."""
    with subprocess.Popen(["sleep", "600"]) as bystander, broker_run(home.directory) as process:
        (home.broker / "run.lock").write_text(str(bystander.pid))
        assert f"process {process.pid}" in home.good("broker", "reload")
        assert process.stdout is not None
        assert process.stdout.readline() == "Reloaded.\n"
        assert bystander.poll() is None
        bystander.kill()


LOOKING = """\
import sys
from pathlib import Path
from securemqtt_tools.broker.lock import running
print("begun", flush=True)
while running(Path(sys.argv[1])) in (None, int(sys.argv[2])):
    pass
"""


@contextmanager
def looking(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process look all the time whether a broker runs in a directory; it ends when it
    takes any other than this one for it.
    """
    (directory / "run.lock").touch()
    command = [sys.executable, "-c", LOOKING, str(directory), str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            yield process
        finally:
            process.kill()


def test_who_looks_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    with looking(tmp_path) as other:
        assert {running(tmp_path) for _ in range(2000)} == {None}
        assert other.poll() is None


def test_who_looks_keeps_no_broker_from_starting(tmp_path: Path) -> None:
    with looking(tmp_path) as other:
        for _ in range(500):
            with holding(tmp_path):
                assert running(tmp_path) == os.getpid()
        assert other.poll() is None


def test_a_client_id_is_no_word_of_the_brokers(home: Home) -> None:
    """The log says what clients call themselves."""
    require_program("mosquitto")
    credentials = home.credentials("Reloaded")
    with BrokerProcess(home.broker, engine="mosquitto") as broker:
        offset = broker.log.stat().st_size
        assert home.lets_in("Reloaded", credentials)
        assert b"Reloaded" in broker.log.read_bytes()[offset:]
        assert not RELOADED.search(broker.log.read_bytes(), offset)
        broker.reload()
        assert RELOADED.search(broker.log.read_bytes(), offset)
