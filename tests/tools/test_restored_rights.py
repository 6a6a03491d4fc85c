"""A home that comes from a backup, beside the one that it has replaced: `ca recover` gives nobody
back what was taken from him on either side, at least not without a word.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from securemqtt_tools.broker.passwords import read_hashes
from securemqtt_tools.broker.rules_file import read_rules
from support.brokers.home import Home
from support.requirements import heeding_modes
from support.speed import seconds

_CA = Path(__file__).parents[2] / "tools" / "ca.py"
NOTHING = "The inventory knows all of it: nothing to take over.\n"


class Restored(Home):
    """A home with two devices, of which a backup can be made and put in its place."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        super().__init__(directory, capture)
        self.backup = directory.parent / "backup"
        self.old = directory.parent / "old" / "home"
        for identity in ("lost", "other"):
            self.credentials(identity)

    def back_up(self) -> None:
        shutil.copytree(self.directory, self.backup)

    def restore(self) -> None:
        """Put the backup in the home's place, which is `old` from now on."""
        self.old.parent.mkdir()
        shutil.move(self.directory, self.old)
        shutil.copytree(self.backup, self.directory)

    def recover(self) -> str:
        return self.good("ca", "recover", self.old.parent)

    def recover_as_no_root(self, place: Path) -> subprocess.CompletedProcess[str]:
        """Run the command as somebody for whom permissions count."""
        command = [*heeding_modes(), sys.executable, _CA, "recover", place]
        return subprocess.run(
            [*map(str, command), "--home", str(self.directory)],
            capture_output=True,
            text=True,
            timeout=seconds(60),
            check=False,
        )

    def may(self, topic: str, identity: str) -> bool:
        return self.run("broker", "who-may", topic, identity)[0] == 0

    @property
    def roles(self) -> dict[str, str]:
        roles: dict[str, str] = json.loads((self.broker / "broker.json").read_text())["roles"]
        return roles


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Restored:
    return Restored(tmp_path / "home", capsys)


def test_what_was_denied_or_taken_away_since_is_not_given_back(home: Restored) -> None:
    """The whole home came from the backup: the one that it has replaced knows better."""
    home.good("broker", "grant", "other", "operator")
    home.good("broker", "allow", "lost", "read", "weather/#")
    home.good("broker", "allow", "lost", "read", "tide/#")
    home.back_up()
    home.good("broker", "grant", "other", "device")
    home.good("broker", "deny", "lost", "weather/secret")
    home.good("broker", "rules", "--remove", "2")
    home.restore()
    assert home.may("weather/secret", "lost")
    out = home.recover()
    assert "Taken over, since it was not here: lost is denied weather/secret." in out
    assert "Taken away, since it was here, and is not there: lost may read tide/#." in out
    assert "Taken over: roles: other (operator here, none there)." in out
    assert "securemqtt broker reload" in out
    assert not home.may("weather/secret", "lost")
    assert not home.may("tide/1", "lost")
    assert home.may("weather/1", "lost")
    assert "other" not in home.good("broker", "who-may", "devices/lost/t")
    acl = (home.broker / "acl").read_text()
    assert "deny weather/secret" in acl
    assert "devices/+/command/#" not in acl
    assert home.recover() == NOTHING


def test_a_denial_counts_though_more_was_changed_here(home: Restored) -> None:
    home.good("broker", "allow", "lost", "read", "weather/#")
    home.back_up()
    home.good("broker", "deny", "lost", "weather/secret")
    home.restore()
    home.good("broker", "allow", "lost", "write", "alarm")
    home.good("broker", "allow", "other", "write", "alarm")
    out = home.recover()
    assert "Taken over, since it was not here: lost is denied weather/secret." in out
    assert (
        "Kept, though it is here, and not there: lost may write alarm; other may write alarm."
        in out
    )
    assert "securemqtt broker rules" in out
    assert not home.may("weather/secret", "lost")
    assert home.may("weather/1", "lost")
    assert home.may("alarm", "other")
    assert (home.ca / "rules.json").read_text() == (home.broker / "rules.json").read_text()


def test_a_denial_of_here_stays_though_more_was_changed_there(home: Restored) -> None:
    home.good("broker", "allow", "lost", "read", "weather/#")
    home.back_up()
    home.good("broker", "allow", "lost", "write", "a")
    home.good("broker", "allow", "lost", "write", "b")
    home.restore()
    home.good("broker", "deny", "lost", "weather/#")
    out = home.recover()
    assert "Kept, though it is here, and not there: lost is denied weather/#." in out
    assert "Taken over, since it was not here: lost may write a; lost may write b." in out
    assert not home.may("weather/1", "lost")
    assert home.may("a", "lost")


def test_rules_that_were_changed_as_often_on_both_sides_are_told(home: Restored) -> None:
    home.good("broker", "group", "crew", "lost")
    home.back_up()
    home.good("broker", "group", "crew", "--remove", "lost")
    (home.directory / "app").mkdir()
    (home.directory / "app" / "broker.json").write_text("{}")  # somebody else's
    home.restore()
    home.good("broker", "allow", "other", "read", "weather/#")
    kept = "Kept, though it is here, and not there: lost is in group crew; other may read"
    assert kept in home.recover()


def test_one_who_is_left_out_of_a_group_has_its_denials_and_networks(home: Restored) -> None:
    """What the group gives may be more or less than he should have, so he is not taken into it."""
    home.good("broker", "group", "crew", "other")
    home.good("broker", "allow", "crew", "read", "weather/#")
    home.good("broker", "deny", "crew", "devices/vault/#")
    home.good("broker", "network", "crew", "192.0.2.0/24")
    home.good("broker", "grant", "lost", "operator")
    home.back_up()
    home.good("broker", "group", "crew", "lost")
    home.restore()
    home.good("broker", "allow", "other", "write", "a")
    home.good("broker", "allow", "other", "write", "b")
    out = home.recover()
    assert (
        "Taken over from groups, as rules of single ids: lost has to come from 192.0.2.0/24; lost "
        "is denied devices/vault/#." in out
    )
    assert "Left, since it is there, and not here: lost is in group crew." in out
    assert "securemqtt broker reload" in out
    assert not home.may("devices/vault/t", "lost")
    assert home.may("devices/other/t", "lost")
    before = home.good("broker", "rules")
    assert "Taken" not in home.recover()
    assert home.good("broker", "rules") == before


def test_networks_alone_are_taken_over(home: Restored) -> None:
    home.back_up()
    home.good("broker", "network", "lost", "192.0.2.1")
    home.restore()
    taken = "Taken over, since it was not here: lost has to come from 192.0.2.1/32."
    assert taken in home.recover()
    assert "192.0.2.1" in home.good("broker", "network", "lost")


def test_an_older_place_takes_no_rule_away(home: Restored, tmp_path: Path) -> None:
    """But who shares a certificate on one side alone does not, and it is said."""
    home.good("broker", "init", "localhost", "--force", "--passwords", "--port", str(home.port))
    home.good("broker", "allow", "lost", "read", "weather/#")
    home.good("ca", "device", "lamp-1", "--shared", "lamps")
    older = tmp_path / "older"
    shutil.copytree(home.directory, older)
    home.good("broker", "deny", "lost", "weather/secret")
    home.good("broker", "grant", "other", "monitor")
    home.good("ca", "device", "lamp-2", "--shared", "lamps")
    out = home.good("ca", "recover", older)
    shared = "lamp-2 shares the certificate of lamps"
    assert f"Taken away, since it was here, and is not there: {shared}." in out
    assert "of lamp-2, gets in by securemqtt ca device ID --shared lamps.\n" in out
    assert read_rules(home.ca).shared == {"lamps": {"lamp-1"}}
    assert read_rules(home.ca).groups == {"lamps": {"lamp-1", "lamp-2"}}
    assert not home.may("weather/secret", "lost")
    home.good("broker", "grant", "other", "operator")
    shutil.copytree(home.directory, tmp_path / "grown")
    home.good("broker", "grant", "other", "device")
    out = home.good("ca", "recover", tmp_path / "grown")  # the copy is the older one
    assert "Left: roles: other (none here, operator there)." in out
    assert "other" not in home.good("broker", "who-may", "devices/lost/t")
    assert not home.may("weather/secret", "lost")


def test_another_authority_below_the_place_is_none_of_ours(
    home: Restored, capsys: pytest.CaptureFixture[str]
) -> None:
    home.good("broker", "grant", "other", "operator")
    home.good("broker", "deny", "lost", "weather/secret")
    home.back_up()
    home.restore()
    foreign = Home(home.old.with_name("foreign"), capsys)
    for number in range(3):
        foreign.good("broker", "allow", "lost", "read", f"door/{number}")
    assert home.recover() == NOTHING
    assert home.roles == {"other": "operator"}
    assert not home.may("door/1", "lost")


def test_of_several_brokers_the_least_role_counts_whatever_the_times(home: Restored) -> None:
    home.good("broker", "grant", "other", "operator")
    home.back_up()
    home.good("broker", "grant", "other", "device")
    home.restore()
    copy = home.old.with_name("backup")
    shutil.copytree(home.backup, copy)
    os.utime(home.old / "broker" / "broker.json", (0, 0))
    assert "Taken over: roles: other (operator here, none there)." in home.recover()
    assert home.roles == {}


def test_a_password_that_was_taken_away_is_not_given_back(home: Restored, tmp_path: Path) -> None:
    home.good("broker", "init", "localhost", "--force", "--passwords", "--port", str(home.port))
    for identity in ("lost", "other", "same"):
        home.good("broker", "password", identity, "--out", tmp_path / identity)
    home.back_up()
    home.good("broker", "password", "lost", "--remove")
    home.good("broker", "password", "other", "--out", tmp_path / "changed")
    home.restore()
    out = home.recover()
    assert "Taken away: passwords of those who have none there: lost." in out
    assert "Left: passwords of those who have another one there: other." in out
    assert set(read_hashes(home.broker / "passwords")) == {"other", "same"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _of_another_version(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "format": 99}))


def _as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("harm", [_cut, _of_another_version, _as_directory, _as_pipe])
@pytest.mark.parametrize("name", ["ca/rules.json", "broker/broker.json"])
def test_what_is_damaged_there_costs_only_what_it_held(
    home: Restored, name: str, harm: Callable[[Path], None]
) -> None:
    """The revocation, and what the other file says, are taken over; the CRL is signed."""
    home.good("broker", "allow", "other", "read", "weather/#")
    home.good("broker", "grant", "other", "operator")
    home.back_up()
    home.good("ca", "revoke", "lost")
    home.good("broker", "grant", "other", "device")
    home.good("broker", "deny", "other", "weather/secret")
    home.restore()
    harm(home.old / name)
    out = home.recover()
    assert f"of {home.old / name}, which is" in out
    assert "--force" not in out
    assert "Given to the broker as well" in out
    assert len(home.read_crl()) == 1
    assert not home.may("weather/secret", "other")
    assert home.roles == ({"other": "operator"} if "broker.json" in name else {})
    assert f"of {home.old / name}, which is" in home.recover()


def test_damaged_passwords_there_cost_no_role(home: Restored) -> None:
    home.good("broker", "init", "localhost", "--force", "--passwords", "--port", str(home.port))
    home.good("broker", "grant", "other", "operator")
    home.back_up()
    home.good("broker", "grant", "other", "device")
    home.restore()
    _no_text(home.old / "broker" / "passwords")
    assert f"Left: the passwords of {home.old / 'broker' / 'passwords'}" in home.recover()
    assert home.roles == {}


@pytest.mark.parametrize("name", ["broker", "ca", "."])
def test_a_directory_that_may_not_be_read_is_named(home: Restored, name: str) -> None:
    """What is beside it is taken over; where that is nothing the command fails."""
    home.good("broker", "allow", "lost", "read", "weather/#")
    home.back_up()
    home.good("broker", "deny", "lost", "weather/secret")
    home.good("ca", "revoke", "other")
    home.restore()
    closed = home.old / name
    closed.chmod(0)
    done = home.recover_as_no_root(home.old.parent)
    closed.chmod(0o700)
    if name == ".":
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert f"and {closed} may not: run this as a user who may read it" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert f"Left: what is in {closed}, which may not be read: run this again" in done.stdout
        assert not home.may("weather/secret", "lost")


def test_a_directory_of_the_home_that_may_not_be_read_is_named(home: Restored) -> None:
    """A bundle that was made by sudo, say: it may be the one witness of a device."""
    home.back_up()
    home.restore()
    closed = home.directory / "bundles" / "by-sudo"
    closed.mkdir(parents=True)
    closed.chmod(0)
    done = home.recover_as_no_root(home.old)
    closed.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Left: what is in {closed}, which may not be read: run this again" in done.stdout
    assert done.stdout.endswith("root say, and name it at the end\n")


def test_a_file_that_may_not_be_looked_at_is_not_taken_for_missing(home: Restored) -> None:
    """CPython 3.14 says of such a one that it is no file."""
    home.back_up()
    home.restore()
    directory = home.old / "broker"
    directory.chmod(0)
    done = home.recover_as_no_root(directory / "crl.pem")
    directory.chmod(0o700)
    assert done.returncode == 1
    assert f"cannot read {directory / 'crl.pem'}: Permission denied" in done.stderr


def test_a_revocation_in_no_crl_is_signed_into_one(home: Restored) -> None:
    """An earlier `ca recover` has learned of it, and was ended before it had signed."""
    home.back_up()
    home.good("ca", "revoke", "lost")
    home.restore()
    (entry,) = home.authority.find("lost")
    home.authority.revoke("lost")
    shutil.rmtree(home.old.parent)
    assert len(home.read_crl()) == 0
    home.good("ca", "recover")
    assert [line.serial_number for line in home.read_crl()] == [int(entry.serial, 16)]
