"""A broker in the foreground whose directory becomes another one while it runs: nobody who was
revoked gets in by that, and no other process is taken for the broker.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerProcess, lock
from securemqtt_tools.broker.foreground import Look
from securemqtt_tools.broker.lock import holding, running
from securemqtt_tools.broker.mosquitto.log import RELOADED
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.mqtt import Peer, client_context
from support.identities.credentials import Credentials
from support.network.net import wait_until
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


def home_said(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End it in order; return what it has printed."""
    process.terminate()
    return process.communicate(timeout=seconds(30))


def last_words(process: subprocess.Popen[str]) -> str:
    """Wait until it has ended by itself; return its last line."""
    _, err = process.communicate(timeout=seconds(30))
    assert process.returncode == 1
    return err.splitlines()[-1]


def revoked_after_a_backup(home: Home, work: Path) -> Credentials:
    """Make a backup of the home, revoke the thief after it, and return what he has."""
    home.good("ca", "device", "old")
    home.good("ca", "revoke", "old")  # so that the backup has a CRL of the authority's own
    thief = home.credentials("thief")
    copy(home.directory, work / "backup")
    home.good("ca", "revoke", "thief")
    home.good("broker", "reload")
    return thief


def kept(home: Home) -> Path:
    """Return the file of what the broker has read."""
    (found,) = home.broker.glob("crl.newest*.pem")
    return found


def await_said(process: subprocess.Popen[str], what: str) -> None:
    """Wait until the running broker has said something."""
    assert process.stdout is not None
    deadline = threading.Timer(seconds(30), process.kill)
    deadline.start()
    try:
        while what not in (line := process.stdout.readline()):
            assert line, what
    finally:
        deadline.cancel()


def recover(home: Home) -> None:
    assert "Taken over: revocations: 1" in home.good("ca", "recover")
    home.good("ca", "list")


@ENGINES
def test_a_broker_whose_directory_is_replaced_ends_and_the_revoked_stays_out(
    home: Home, tmp_path: Path, engine: str
) -> None:
    """The whole home comes from a backup of before the revocation."""
    thief = revoked_after_a_backup(home, tmp_path)
    with run(home, engine) as process:
        copy(tmp_path / "backup", tmp_path / "new")
        home.directory.rename(tmp_path / "old")
        (tmp_path / "new").rename(home.directory)
        said = last_words(process)
    assert "was replaced while the broker ran" in said
    assert f"the one of before is {tmp_path / 'old' / 'broker'}." in said
    assert "crl.pem holds CRL" in said
    for command in (
        ("broker", "reload"),
        ("ca", "crl"),
        ("broker", "init", "localhost", "--force"),
    ):
        assert f"{kept(home)} holds CRL" in home.bad(*command)
    status, _, err = home.run("broker", "run", "--engine", engine)
    assert (status, "comes from a backup: the broker had CRL" in err) == (1, True)
    recover(home)
    with run(home, engine):
        assert not home.lets_in("thief", thief)


@ENGINES
def test_where_the_directory_is_moved_away_the_way_back_is_told(
    home: Home, tmp_path: Path, engine: str
) -> None:
    thief = revoked_after_a_backup(home, tmp_path)
    with run(home, engine) as process:
        home.directory.rename(tmp_path / "old")
        said = last_words(process)
    copy(tmp_path / "backup", home.directory)
    assert f"ca.py recover {tmp_path / 'old' / 'broker'} first" in said
    assert "Taken over" in home.good("ca", "recover", tmp_path / "old" / "broker")
    with run(home, engine):
        assert not home.lets_in("thief", thief)


@ENGINES
def test_a_backup_that_is_copied_over_the_running_broker_is_not_taken_up(
    home: Home, tmp_path: Path, engine: str
) -> None:
    """Its directory stays the same one, so that the broker goes on with what it has read."""
    with run(home, engine) as process:
        thief, pump = revoked_after_a_backup(home, tmp_path), home.credentials("pump")
        wait_until(lambda: not home.lets_in("thief", thief), what="the reload")
        with Peer(home.port, client_context(home.broker / "ca.pem", pump)) as peer:
            peer.connect("pump")
            copy(tmp_path / "backup", home.directory)
            await_said(process, "Nothing is taken up: ")
            process.send_signal(signal.SIGHUP)
            for command in (("ca", "revoke", "old"), ("ca", "crl"), ("broker", "reload")):
                assert "holds CRL" in home.bad(*command)
            assert not home.lets_in("thief", thief)
            recover(home)
            home.good("broker", "reload")
            assert not home.lets_in("thief", thief)
            assert peer.drain() == []
        out, _ = home_said(process)
    assert out.count("Nothing is taken up: ") == 0


@ENGINES
def test_it_does_not_start_again_with_what_a_backup_has(
    home: Home, tmp_path: Path, engine: str
) -> None:
    """Its power goes once the backup is in its place; then an older one yet comes there."""
    copy(home.directory, tmp_path / "older")
    with run(home, engine) as process:
        thief = revoked_after_a_backup(home, tmp_path)
        wait_until(lambda: not home.lets_in("thief", thief), what="the reload")
        copy(tmp_path / "backup", home.directory)
        await_said(process, "Nothing is taken up: ")
        process.kill()
    newest = kept(home).read_bytes()
    copy(tmp_path / "older", home.broker.parent)
    status, _, err = home.run("broker", "run", "--engine", engine)
    assert (status, "comes from a backup" in err) == (1, True)
    assert kept(home).read_bytes() == newest
    assert "comes from a backup" in home.run("broker", "status")[2]
    home.run("ca", "recover")
    home.good("broker", "reload")
    with run(home, engine):
        assert not home.lets_in("thief", thief)


@ENGINES
def test_what_an_earlier_intermediate_has_issued_does_not_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    home = Home(tmp_path / "home", capsys, intermediate=True)
    if engine == "mosquitto":
        require_program("mosquitto")
    thief = home.credentials("thief")
    copy(home.directory, tmp_path / "backup")
    with BrokerProcess(home.broker, engine=engine) as broker:
        home.good("ca", "replace-intermediate")
        home.good("broker", "reload")
        broker.reload()
        assert not home.lets_in("thief", thief)
        copy(tmp_path / "backup" / "broker", home.broker)
        for take_up in (broker.end_tls_sessions, broker.reload, broker.restart):
            with pytest.raises(FatalError, match="comes from a backup"):
                take_up()
            assert not home.lets_in("thief", thief)
        home.good("broker", "reload")
        broker.reload()
        assert not home.lets_in("thief", thief)
        copy(tmp_path / "backup", home.directory)  # the whole home
        with pytest.raises(FatalError, match="comes from a backup"):
            broker.reload()
        for command in (("ca", "recover"), ("ca", "crl"), ("broker", "reload")):
            assert f"{kept(home)} shows that another intermediate" in home.bad(*command)
        home.good("ca", "replace-intermediate")
        home.good("broker", "reload")
        broker.reload()
        assert not home.lets_in("thief", thief)
        assert home.lets_in("pump", home.credentials("pump"))


def new_authority(home: Home, work: Path, *options: str) -> Credentials:
    """Revoke the thief, then have a new authority take the place of the stolen one, of which there
    is a backup from before; return what the thief has.
    """
    thief = home.credentials("thief")
    copy(home.directory, work / "backup")
    home.good("ca", "revoke", "thief")
    home.ca.rename(work / "stolen")
    home.good("ca", "init", "--leave-keys-unencrypted", *options)
    init_again(home)
    return thief


def init_again(home: Home) -> None:
    home.good("broker", "init", "localhost", "--force", "--port", str(home.port))


@ENGINES
@pytest.mark.parametrize("intermediate", [False, True], ids=["root alone", "intermediate"])
def test_a_former_authority_comes_back_on_purpose_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, intermediate: bool
) -> None:
    """Its directory alone, with what it knew before the revocation."""
    home = Home(tmp_path / "home", capsys, intermediate=intermediate)
    thief = new_authority(home, tmp_path)
    with run(home, engine):
        assert not home.lets_in("thief", thief)
    shutil.rmtree(home.ca)
    copy(tmp_path / "backup" / "ca", home.ca)
    before = {path.name: path.read_bytes() for path in home.broker.glob("*.pem")}
    assert "shows that another authority has taken the place" in home.run("ca", "list")[2]
    for command in (
        ("ca", "crl"),
        ("ca", "device", "pump"),
        ("ca", "revoke", "thief"),
        ("broker", "reload"),
        ("broker", "init", "localhost", "--force"),
        *([("ca", "replace-intermediate")] if intermediate else []),
    ):
        assert f"{kept(home)} shows that another authority has taken" in home.bad(*command)
    assert {path.name: path.read_bytes() for path in home.broker.glob("*.pem")} == before
    with run(home, engine):
        assert not home.lets_in("thief", thief)
    assert f"delete {kept(home)}, then run" in home.run("ca", "recover")[2]
    kept(home).unlink()
    home.good("ca", "crl")
    init_again(home)
    pump = home.credentials("pump")
    with run(home, engine):
        assert not home.lets_in("thief", thief)  # ca recover has found that he was revoked
        assert home.lets_in("pump", pump)


@ENGINES
def test_a_former_home_that_is_copied_over_a_running_broker_is_not_taken_up(
    home: Home, tmp_path: Path, engine: str
) -> None:
    thief = new_authority(home, tmp_path)
    with run(home, engine) as process:
        copy(tmp_path / "backup", home.directory)
        await_said(process, "Nothing is taken up: ")
        process.send_signal(signal.SIGHUP)
        await_said(process, "Not reloaded: ")
        for command in (("ca", "crl"), ("broker", "reload")):
            assert "shows that another authority has taken the place" in home.bad(*command)
        assert "shows that another authority" in home.run("ca", "list")[2]
        assert "shows that another authority" in home.run("ca", "recover")[2]
        copy(tmp_path / "backup" / "broker", home.broker)
        # by the new authority's anchor, that he comes to where the CRL counts
        assert not home.lets_in("thief", thief)
    status, _, err = home.run("broker", "run", "--engine", engine)
    assert (status, "of an authority that another one has replaced here" in err) == (1, True)


@ENGINES
@pytest.mark.parametrize("revoked", [True, False])
def test_a_new_authority_may_have_the_name_of_the_old_one(
    home: Home, tmp_path: Path, engine: str, revoked: bool
) -> None:
    name = home.authority.root.subject.rfc4514_string().removeprefix("CN=")
    if revoked:
        home.credentials("lost")
        home.good("ca", "revoke", "lost")
        home.good("broker", "reload")
    thief = home.credentials("thief")
    context = client_context(home.broker / "ca.pem", thief)
    with run(home, engine) as process, Peer(home.port, context) as peer:
        peer.connect("thief")
        home.ca.rename(tmp_path / "stolen")
        home.good("ca", "init", "--leave-keys-unencrypted", "--name", name)
        init_again(home)
        home.good("broker", "reload")
        peer.wait_closed()
        await_said(process, "Restarted: " if engine == "mosquitto" else "Reloaded.")
        assert home.lets_in("pump", home.credentials("pump"))
        assert not home.lets_in("thief", thief)
    assert home.authority.root.subject.rfc4514_string() == f"CN={name}"


@ENGINES
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_who_ends_the_broker_right_after_the_copying_finds_what_it_had_read(
    home: Home, tmp_path: Path, engine: str, end: signal.Signals
) -> None:
    thief = revoked_after_a_backup(home, tmp_path)
    with run(home, engine) as process:
        copy(tmp_path / "backup", home.directory)
        process.send_signal(end)
        process.wait(seconds(30))
    status, _, err = home.run("broker", "run", "--engine", engine)
    assert (status, "comes from a backup" in err) == (1, True)
    recover(home)
    with run(home, engine):
        assert not home.lets_in("thief", thief)


@ENGINES
def test_the_lock_may_be_replaced_before_the_crl_is(
    home: Home, tmp_path: Path, engine: str
) -> None:
    """As tar does it, in the order in which it finds the files; its own memory comes last."""
    thief = revoked_after_a_backup(home, tmp_path)
    with run(home, engine) as process:
        lock_file = home.broker / "run.lock"
        lock_file.rename(tmp_path / "run.lock")
        lock_file.touch()
        assert "was replaced while the broker ran" in last_words(process)
    copy(tmp_path / "backup", home.directory)
    status, _, err = home.run("broker", "run", "--engine", engine)
    assert (status, "comes from a backup" in err) == (1, True)
    recover(home)
    with run(home, engine):
        assert not home.lets_in("thief", thief)


def test_what_a_full_disk_keeps_from_being_written_is_written_later(
    home: Home, tmp_path: Path
) -> None:
    """The files were made the backup's: what was newer is gone."""
    revoked_after_a_backup(home, tmp_path)
    with run(home, "mosquitto") as process:
        limit = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, limit[1]))
        newest = kept(home)
        newest.unlink()
        copy(tmp_path / "backup", home.directory)
        await_said(process, "the disk (or your quota) is full")
        assert not newest.exists()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
        wait_until(newest.exists, what="what the broker had read")
    assert "comes from a backup" in home.run("broker", "status")[2]


def test_a_replacement_of_the_intermediate_that_is_cut_short_forgets_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops before it has signed a CRL."""
    home = Home(tmp_path / "home", capsys, intermediate=True)
    thief = home.credentials("thief")
    copy(home.directory, tmp_path / "backup")
    home.good("ca", "replace-intermediate")
    home.good("broker", "reload")
    copy(tmp_path / "backup", home.directory)
    (home.ca / "crl.pem").unlink()
    (home.ca / "crl.pem").mkdir()
    assert home.run("ca", "replace-intermediate")[0] == 1
    (home.ca / "crl.pem").rmdir()
    copy(tmp_path / "backup", home.directory)
    status, _, err = home.run("broker", "run")
    assert (status, "shows that another intermediate" in err) == (1, True)
    home.good("ca", "replace-intermediate")
    with home.running():
        assert not home.lets_in("thief", thief)


def test_a_crl_that_is_just_being_written_is_none_from_a_backup(home: Home, tmp_path: Path) -> None:
    """As scp does, in its place."""
    require_program("mosquitto")
    said: list[str] = []
    with BrokerProcess(home.broker, engine="mosquitto") as broker:
        look = Look(broker, said.append)
        look()
        thief = home.credentials("thief")
        home.good("ca", "revoke", "thief")
        whole = home.crl.read_bytes()
        for half in (b"", whole[:200]):
            home.crl.write_bytes(half)
            look()
        assert said == []
        look()
        look()
        (damaged,) = said
        assert "is damaged, or is just being copied" in damaged
        home.crl.write_bytes(whole)
        look()
        look()
        assert said[1:] == ["What there is may be taken up again: securemqtt broker reload."]
        broker.reload()
        assert not home.lets_in("thief", thief)


@pytest.mark.parametrize("content", ["", None], ids=["empty", "gone"])
def test_the_authority_writes_a_crl_that_is_lost(home: Home, content: str | None) -> None:
    thief = home.credentials("thief")
    home.good("ca", "revoke", "thief")
    home.crl.unlink()
    if content is not None:
        home.crl.write_text(content)
    with home.running():
        assert not home.lets_in("thief", thief)
    home.crl.unlink()
    home.ca.rename(home.directory / "away")
    assert f"there is no {home.crl}: run securemqtt broker reload" in home.bad("broker", "reload")


def test_what_a_broker_had_read_may_have_another_name(home: Home, tmp_path: Path) -> None:
    revoked_after_a_backup(home, tmp_path)
    named = kept(home).rename(tmp_path / "newest")
    shutil.rmtree(home.directory)
    copy(tmp_path / "backup", home.directory)
    assert "Taken over: revocations: 1" in home.good("ca", "recover", named)


def test_what_follows_by_right_is_taken_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A renewed intermediate, a replaced one, a home that was moved, and a new authority after one
    whose clock was ahead.
    """
    require_program("mosquitto")
    home = Home(tmp_path / "home", capsys, intermediate=True)
    with BrokerProcess(home.broker, engine="mosquitto") as broker:
        for command in ("renew-intermediate", "crl", "replace-intermediate"):
            home.good("ca", command)
            home.good("broker", "reload")
            broker.reload()
            assert home.lets_in(command, home.credentials(command))
    ahead = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=400)
    Authority.open(home.ca, clock=lambda: ahead).crl_pem()
    home.run("broker", "reload")
    home.directory = home.directory.rename(tmp_path / "moved")
    home.good("broker", "reload")
    home.ca.rename(tmp_path / "old")
    home.good("ca", "init", "--leave-keys-unencrypted")
    init_again(home)
    with home.running():
        assert home.lets_in("pump", home.credentials("pump"))


def test_a_crl_that_lists_less_is_not_a_later_one(home: Home, tmp_path: Path) -> None:
    """The restored authority has signed one meanwhile, where nobody could know."""
    require_program("mosquitto")
    thief = revoked_after_a_backup(home, tmp_path)
    with BrokerProcess(home.broker, engine="mosquitto") as broker:
        shutil.copytree(tmp_path / "backup", tmp_path / "restored")
        restored = Authority.open(tmp_path / "restored" / "ca")
        restored.crl_pem(above=int(f"{datetime.now(timezone.utc):%Y%m%d%H%M%S}") + 10)
        home.crl.unlink()
        restored.write_crl(home.crl)
        with pytest.raises(FatalError, match="with 1 revoked, and comes from a backup"):
            broker.reload()
        assert not home.lets_in("thief", thief)


@pytest.mark.parametrize("content", ["x", ""])
def test_a_damaged_copy_of_the_newest_crl_is_not_forgotten(home: Home, content: str) -> None:
    newest = kept(home)
    newest.write_text(content)
    home.good("ca", "device", "pump")
    for command in (("broker", "reload"), ("ca", "revoke", "pump"), ("broker", "install")):
        assert "says who was revoked, is damaged" in home.bad(*command)
    assert newest.read_text() == content


def test_without_the_authority_the_right_files_are_asked_for(home: Home, tmp_path: Path) -> None:
    revoked_after_a_backup(home, tmp_path)
    with run(home, "mosquitto") as process:
        copy(home.ca, tmp_path / "authority")
        home.ca.rename(tmp_path / "away")
        names = ("crl.pem", "revoked.json", "ca.websockets.pem")
        for name in names:
            shutil.copy(tmp_path / "backup" / "ca" / name, home.broker)
        await_said(process, "Nothing is taken up: ")
        assert "a broker elsewhere gets the authority's files again" in home.bad("broker", "reload")
        for name in names:
            shutil.copy(tmp_path / "authority" / name, home.broker)
        status, _, _ = home.run("broker", "reload")
        assert status == 0


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
        assert "was replaced while the broker ran, or its run.lock" in last_words(process)


def test_the_directory_is_looked_at_before_a_signal_is_obeyed(home: Home, tmp_path: Path) -> None:
    copy(home.directory, tmp_path / "backup")
    with run(home, "mosquitto") as process:
        home.directory.rename(tmp_path / "old")
        copy(tmp_path / "backup", home.directory)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=seconds(30))
    assert "eloaded" not in out and "estarted" not in out
    assert "was replaced while the broker ran, or its run.lock" in err.splitlines()[-1]


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
from securemqtt_tools.broker.foreground import Look
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


def test_a_broker_that_cannot_be_seen_is_told_of(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in a container: the kernel says that the lock is held, and not by whom."""
    (tmp_path / "locks").touch()
    monkeypatch.setattr(lock, "_LOCKS", tmp_path / "locks")
    with holding(home.broker):
        assert "run securemqtt broker reload there" in home.bad("broker", "reload")
        assert "yes: broker run, in a container perhaps" in home.run("broker", "status")[1]


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
