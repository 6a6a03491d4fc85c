"""Whoever holds the user mosquitto turns against root, who installs or runs the broker: for real,
by that user's processes, so root is needed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.issuing import set_up
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.pki import Authority
from support.brokers.system import (
    System,
    open_directory,
    require_service_user,
    running_system,
)
from support.processes import children
from support.requirements import require_program, unavailable
from support.speed import seconds

ROOT = Path(__file__).parents[2]
# What this system calls it (PEP 394).
PYTHON = "python" if shutil.which("python") else "python3"
SCRIPT = ROOT / "tools" / "broker.py"
SECRET = b"root's own secret\n"
NAMES = ("acl", "ca.pem", "crl.pem", "server.pem")
# What can be put in the place of a file: by its owner a link and a FIFO; a hard link to what is
# another's only where fs.protected_hardlinks is 0, so root plays that system here.
PLANTED = ("link", "hard link", "fifo", "directory")
# Waits until the installation has begun, then puts a link wherever a file has just been written.
RACE = """
cd "$1" && until [ -e ../conf.d/securemqtt.conf ] || ls .*.part > /dev/null 2>&1; do :; done
echo begun
while :; do
    for name in acl ca.pem crl.pem server.pem .*.part; do
        [ -f "$name" ] && [ ! -L "$name" ] && ln -sf "$2" "$name" 2> /dev/null
    done
done
"""


@pytest.fixture
def user() -> pwd.struct_passwd:
    return require_service_user()


@pytest.fixture
def system(user: pwd.struct_passwd) -> Iterator[System]:
    with running_system() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return made_home(tmp_path / "home")


@pytest.fixture
def secret(system: System) -> Path:
    """Make a file that only root may read, where every user may look for it."""
    path = system.etc.parent / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


def made_home(directory: Path) -> Path:
    authority = Authority.create(directory / "ca", passphrase=None)
    BrokerConfig.create(
        directory / "broker", authority, names=["localhost"], port=free_port("127.0.0.1")
    )
    return directory


def as_user(user: pwd.struct_passwd, *command: str | Path) -> list[str]:
    who = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [require_program("setpriv"), *who, *map(str, command)]


def succeeds(user: pwd.struct_passwd, script: str, *arguments: str | Path) -> bool:
    """Return True if a shell script that the user runs ends well."""
    done = subprocess.run(
        as_user(user, "sh", "-c", script, "sh", *arguments),
        capture_output=True,
        timeout=seconds(20),
        check=False,
    )
    return done.returncode == 0


def as_an_earlier_version_left_it(system: System, user: pwd.struct_passwd) -> None:
    """Make the folder one that its user owns, with files of the same names in it."""
    system.folder.mkdir(exist_ok=True)
    system.folder.chmod(0o700)
    for name in NAMES:
        path = system.folder / name
        if not path.exists():
            path.write_bytes(b"old\n")
        path.chmod(0o600)
        os.chown(path, user.pw_uid, user.pw_gid)
    os.chown(system.folder, user.pw_uid, user.pw_gid)


def plant(user: pwd.struct_passwd, path: Path, kind: str, target: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "hard link":
        path.hardlink_to(target)
    else:
        made = {"link": 'ln -s "$2" "$1"', "fifo": 'mkfifo "$1"', "directory": 'mkdir "$1"'}
        assert succeeds(user, made[kind], path, target)


def check_untouched(secret: Path) -> None:
    status = secret.stat()
    found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), secret.read_bytes())
    assert found == (0, 0, 0o600, SECRET)


def check_rights(system: System, user: pwd.struct_passwd) -> None:
    """See that all is root's, and that the service may read it."""
    found = {
        path.name: (status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode)))
        for path in (system.folder, *system.folder.iterdir())
        for status in [path.lstat()]
    }
    ours = dict.fromkeys(NAMES, (0, user.pw_gid, "0o640"))
    assert found == ours | {system.folder.name: (0, user.pw_gid, "0o750")}


def test_the_service_may_read_and_nothing_else(
    system: System, home: Path, user: pwd.struct_passwd
) -> None:
    assert system.install(home, "--yes") == 0
    check_rights(system, user)
    assert succeeds(user, 'cat "$1"/*', system.folder)
    for attempt in (
        'echo "topic readwrite #" >> "$1/acl"',
        'rm -f "$1/acl"',
        'mv "$1/acl" "$1/old"',
        'ln -s /etc/passwd "$1/new"',
        'chmod 777 "$1"',
        'chmod 666 "$1/acl"',
        'mv "$1" "$1.old"',
        'echo "user root" >> "$1/../conf.d/securemqtt.conf"',
    ):
        assert not succeeds(user, attempt, system.folder), attempt


def test_passwords_and_websockets_are_readable_too(
    system: System, home: Path, user: pwd.struct_passwd
) -> None:
    BrokerConfig.open(home / "broker").changed(
        passwords=True, websockets_port=free_port("127.0.0.1")
    )
    assert system.install(home, "--yes") == 0  # Mosquitto ends at a file that it cannot read
    assert (system.folder / "passwords").stat().st_uid == 0
    for path in system.folder.iterdir():
        assert f"Unable to open {path}" not in system.log.read_text()


def test_what_an_earlier_version_gave_away_is_taken_back(
    system: System, home: Path, user: pwd.struct_passwd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert system.install(home, "--yes") == 0
    as_an_earlier_version_left_it(system, user)
    capsys.readouterr()
    assert system.install(home, "--dry-run") == 0
    said = capsys.readouterr().out
    for path in (system.folder, *(system.folder / name for name in NAMES)):
        assert f"changed: {path}: root's alone to change, for mosquitto to read\n" in said
    assert system.folder.stat().st_uid == user.pw_uid
    assert system.install(home, "--yes") == 0
    check_rights(system, user)
    capsys.readouterr()
    assert system.install(home, "--yes") == 0
    assert "Nothing would change" in capsys.readouterr().out


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", ["acl", "server.pem"])
def test_what_is_planted_is_neither_shown_nor_put_back(
    system: System,
    home: Path,
    user: pwd.struct_passwd,
    secret: Path,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    name: str,
) -> None:
    as_an_earlier_version_left_it(system, user)
    plant(user, system.folder / name, kind, secret)
    system.restart = "sh -c 'exit 5'"  # so that all is put back
    assert system.install(home, "--yes") == 1
    said = capfd.readouterr()
    assert SECRET.decode() not in said.out + said.err
    assert said.err.splitlines()[-1].startswith(f"securemqtt: {system.folder / name} is ")
    assert "find out who put it there" in said.err
    secret_links = 2 if kind == "hard link" else 1
    assert secret.stat().st_nlink == secret_links
    check_untouched(secret)
    assert not succeeds(user, 'grep -rqs "secret" "$1"', system.folder)


def test_links_that_appear_meanwhile_are_not_followed(
    system: System, home: Path, user: pwd.struct_passwd, secret: Path
) -> None:
    as_an_earlier_version_left_it(system, user)
    with subprocess.Popen(
        as_user(user, "sh", "-c", RACE, "sh", system.folder, secret), stdout=subprocess.PIPE
    ) as attacker:
        try:
            # Whether it is refused because of a link or done is a matter of who is faster.
            status = system.install(home, "--yes")
        finally:
            attacker.kill()
    check_untouched(secret)
    assert (system.folder.stat().st_uid, stat.S_IMODE(system.folder.stat().st_mode)) == (0, 0o750)
    assert not succeeds(user, 'grep -rqs "secret" "$1"', system.folder)
    if status == 0:
        check_rights(system, user)


def test_a_roll_back_gives_nothing_away_either(
    system: System, home: Path, user: pwd.struct_passwd
) -> None:
    as_an_earlier_version_left_it(system, user)
    before = system.content()
    system.restart = "sh -c 'exit 5'"
    assert system.install(home, "--yes") == 1
    assert system.content() == before
    check_rights(system, user)


@pytest.mark.parametrize(
    "where", ["etc", "conf.d", "mosquitto.conf", "etc, for its group", "the way there, for all"]
)
def test_a_configuration_in_the_hands_of_the_service_is_refused(
    system: System,
    home: Path,
    user: pwd.struct_passwd,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    places = {"conf.d": system.etc / "conf.d", "mosquitto.conf": system.etc / "mosquitto.conf"}
    place = places.get(where, system.etc)
    if where == "the way there, for all":
        place = system.etc.parent
        place.chmod(0o777)
    elif where == "etc, for its group":
        os.chown(place, 0, user.pw_gid)
        place.chmod(0o775)
    else:
        os.chown(place, user.pw_uid, -1)
    before = system.content()
    assert system.install(home, "--yes") == 1
    err = capsys.readouterr().err
    assert f"securemqtt: {place} " in err
    assert "who would decide what root's Mosquitto does" in err
    assert system.content() == before


def test_the_trial_has_the_rights_of_the_service(
    system: System, home: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = system.etc / "other.pem"
    certificate.write_bytes((home / "broker" / "server.pem").read_bytes())
    secret.write_bytes(certificate.read_bytes())
    (system.etc / "conf.d" / "other.conf").write_text(
        f"listener 1 127.0.0.1\ncertfile {certificate}\nkeyfile {secret}\n"
    )
    before = system.content()
    assert system.install(home, "--dry-run") == 1
    assert "Mosquitto does not take this configuration: Error: " in capsys.readouterr().err
    assert system.content() == before


def test_an_old_rule_file_does_not_drive_the_terminal(
    system: System, home: Path, user: pwd.struct_passwd, capsys: pytest.CaptureFixture[str]
) -> None:
    as_an_earlier_version_left_it(system, user)
    (system.folder / "acl").write_bytes("\x1b]0;owned\x07\u202etopic\n".encode())
    assert system.install(home, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "-\\x1b]0;owned\\x07\\u202etopic" in out
    assert "\x1b" not in out


@pytest.fixture
def python(user: pwd.struct_passwd) -> str:
    """Find a Python like this one, which may be closed to others (pyenv's in /root)."""
    candidates = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
    usable = [one for one in candidates if succeeds(user, 'test -r "$1" && "$2" -V', SCRIPT, one)]
    if not usable:
        unavailable(f"{user.pw_name} cannot read this checkout, or has no Python of this version")
    return usable[0]


@pytest.fixture
def theirs(user: pwd.struct_passwd) -> Iterator[Path]:
    """Make a home with a broker that is the user's, as is all in it."""
    with open_directory() as directory:
        home = made_home(directory / "home")
        give(home, user)
        yield home


def give(home: Path, user: pwd.struct_passwd) -> None:
    for path in (home, *home.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)


def start(python: str, home: Path, *options: str) -> subprocess.Popen[str]:
    """Start `broker run` as root, with this interpreter's packages."""
    path = os.pathsep.join([str(ROOT / "lib"), sysconfig.get_path("purelib")])
    return subprocess.Popen(
        [python, str(SCRIPT), "run", "--home", str(home), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )


@contextmanager
def running(python: str, home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `broker run` as root, until it listens; yield it and what it said of its rights."""
    with start(python, home, *options) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            assert " is running: " in first, first + process.stderr.read()
            stream = process.stdout if home.stat().st_uid else process.stderr
            yield process, stream.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=seconds(20))


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
def test_run_by_root_becomes_whose_it_is(
    theirs: Path, user: pwd.struct_passwd, python: str, engine: str
) -> None:
    require_program("mosquitto")
    directory = theirs / "broker"
    with running(python, theirs, "--engine", engine) as (process, said):
        assert said == (
            f"It has no rights of root's: it runs as {user.pw_name}, whose {directory} is.\n"
        )
        pids = [process.pid, *children(process.pid)]
        assert len(pids) == 2
        for pid in pids:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found = {line.partition(":")[0]: line.split()[1:] for line in lines}
            assert found["Uid"] == [str(user.pw_uid)] * 4
            assert found["Gid"] == [str(user.pw_gid)] * 4
            assert found["Groups"] == [str(user.pw_gid)]
            assert int(found["CapEff"][0], 16) == int(found["CapPrm"][0], 16) == 0
    assert {path.lstat().st_uid for path in directory.rglob("*")} == {user.pw_uid}


@pytest.mark.parametrize(
    "name", ["run.lock", "broker.log", "mosquitto.conf", "data/mosquitto.db.new"]
)
def test_run_by_root_follows_no_link_to_what_is_roots(
    theirs: Path, user: pwd.struct_passwd, python: str, name: str
) -> None:
    secret = theirs.parent / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    plant(user, theirs / "broker" / name, "link", secret)
    with start(python, theirs) as process:
        try:
            # It runs without what it could not read, or has ended with a complaint.
            assert process.stdout is not None
            process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=seconds(20))
    assert "Traceback" not in err
    check_untouched(secret)


def test_run_says_why_it_stays_root(home: Path, python: str) -> None:
    with running(python, home) as (_, said):
        assert said == (
            f"securemqtt: warning: it runs as root, since {home / 'broker'} is root's and no other "
            f"user could read it: whoever breaks into the broker has this computer. Set it up as a "
            f"user of your own, or let the system's Mosquitto run it ({PYTHON} tools/broker.py "
            f"install)\n"
        )


def failing_run(python: str, home: Path) -> str:
    with start(python, home) as process:
        try:
            out, err = process.communicate(timeout=seconds(60))
        finally:
            process.kill()
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    return err


def test_run_says_why_it_cannot_give_up_root(
    theirs: Path, user: pwd.struct_passwd, python: str
) -> None:
    lock = theirs / "broker" / "run.lock"
    lock.touch(mode=0o600)
    left = f"but {lock} is another user's, perhaps from an earlier run as root"
    assert left in failing_run(python, theirs)
    lock.unlink()
    BrokerConfig.open(theirs / "broker").changed(port=443)
    give(theirs, user)
    assert "port 443 is kept for root" in failing_run(python, theirs)
    with open_directory() as closed:
        closed.chmod(0o700)
        own = closed / "python"
        own.symlink_to(python)
        assert f"{user.pw_name} cannot use {own}" in failing_run(str(own), theirs)


def test_run_by_root_without_a_broker(user: pwd.struct_passwd, python: str) -> None:
    with open_directory() as directory:
        os.chown(directory, user.pw_uid, user.pw_gid)
        assert f"run {PYTHON} tools/broker.py init" in failing_run(python, directory)
        assert list(directory.iterdir()) == []


def as_root(python: str, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Call a command as root, as sudo and a timer do, with this interpreter's packages."""
    path = os.pathsep.join([str(ROOT / "lib"), sysconfig.get_path("purelib")])
    return subprocess.run(
        [python, str(ROOT / "tools" / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_renew_by_root_becomes_whose_it_is(
    theirs: Path, user: pwd.struct_passwd, python: str
) -> None:
    """A timer's passphrase is root's to read; what is written is written as the user."""
    secret = theirs.parent / "issuer-passphrase"
    secret.write_bytes(b"correct horse battery")
    secret.chmod(0o600)
    config = BrokerConfig.open(theirs / "broker")
    set_up(config, Authority.open(theirs / "ca"), secret.read_bytes(), days=30)
    give(theirs, user)
    before = config.server_certificate()
    options = ("--now", "--home", theirs, "--issuer-passphrase-file", secret)
    done = as_root(python, "broker.py", "renew", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert config.server_certificate() != before
    assert {path.lstat().st_uid for path in theirs.rglob("*")} == {user.pw_uid}
    plant(user, theirs / "broker" / "issuer.pem", "link", secret)
    done = as_root(python, "broker.py", "renew", *options)
    assert f"cannot read {theirs / 'broker' / 'issuer.pem'}: Permission denied" in done.stderr


def test_recover_by_root_becomes_whose_it_is(
    theirs: Path, user: pwd.struct_passwd, python: str
) -> None:
    """Only root can read what is installed; the authority's files stay the user's."""
    authority = Authority.open(theirs / "ca")
    authority.issue_device("pump")
    backup = theirs.parent / "backup"
    shutil.copytree(theirs / "ca", backup)
    authority.revoke("pump")
    installed = theirs.parent / "installed"
    installed.mkdir(0o700)
    (installed / "crl.pem").write_bytes(authority.crl_pem())
    shutil.rmtree(theirs / "ca")
    shutil.copytree(backup, theirs / "ca")
    give(theirs, user)
    done = as_root(python, "ca.py", "recover", installed, "--home", theirs)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Taken over: revocations: 1" in done.stdout
    assert {path.lstat().st_uid for path in theirs.rglob("*")} == {user.pw_uid}
