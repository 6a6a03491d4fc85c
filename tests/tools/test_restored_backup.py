"""A restored backup of the authority: it has forgotten what was revoked since, and nobody who was
revoked gets in again.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.profiles import excluded_ids
from support.brokers.home import Home
from support.identities.credentials import Credentials, issued_credentials
from support.requirements import require_program


class BackedUp(Home):
    """A home with two devices, and a backup of the authority from before one was revoked."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        super().__init__(directory, capture)
        self._backup = directory.parent / "backup"
        self.lost = self.credentials("lost")
        self.other = self.credentials("other")

    def back_up(self) -> None:
        shutil.copytree(self.ca, self._backup)

    def restore(self) -> None:
        shutil.rmtree(self.ca)
        shutil.copytree(self._backup, self.ca)


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> BackedUp:
    return BackedUp(tmp_path / "home", capsys)


def number_of(pem: bytes) -> int:
    """Return a CRL's number."""
    crl = x509.load_pem_x509_crl(pem)
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def serials(path: Path) -> set[int]:
    """Return the serial numbers that a CRL lists."""
    return {line.serial_number for line in x509.load_pem_x509_crl(path.read_bytes())}


def serial_of(credentials: Credentials) -> int:
    """Return a device's serial number."""
    return x509.load_pem_x509_certificate(credentials.certificate.read_bytes()).serial_number


def test_a_revoked_device_stays_out_of_mosquitto(home: BackedUp) -> None:
    home.back_up()
    home.good("ca", "revoke", "lost")
    home.restore()
    status, _, err = home.run("broker", "reload")
    with home.running():
        assert not home.lets_in("lost", home.lost)
        assert home.lets_in("other", home.other)
    assert (status, err.count("\n")) == (1, 1)
    out = home.good("ca", "recover")
    assert "Taken over" in out
    home.good("broker", "reload")
    with home.running():
        assert not home.lets_in("lost", home.lost)
        assert home.lets_in("other", home.other)


@pytest.mark.parametrize(
    "arguments",
    [
        ("broker", "reload"),
        ("broker", "init", "localhost", "--force"),
        ("ca", "crl"),
        ("ca", "revoke", "other"),
        ("ca", "renew", "other", "--revoke-old"),
    ],
    ids=" ".join,
)
def test_nothing_is_changed_until_it_is_recovered(
    home: BackedUp, arguments: tuple[str, ...]
) -> None:
    home.back_up()
    home.good("ca", "revoke", "lost")
    home.restore()
    before = home.crl.read_bytes()
    names = ("inventory.sqlite", "crl.pem")
    known = [(home.ca / name).read_bytes() for name in names if (home.ca / name).exists()]
    error = home.bad(*arguments)
    assert f"{home.crl} holds CRL {number_of(before)}" in error
    assert f"securemqtt ca recover {home.crl}" in error
    assert home.crl.read_bytes() == before
    assert [(home.ca / name).read_bytes() for name in names if (home.ca / name).exists()] == known
    home.good("ca", "recover")
    home.good(*arguments)
    assert serial_of(home.lost) in serials(home.crl)
    assert number_of(home.crl.read_bytes()) > number_of(before)


def test_its_own_crl_shows_that_the_authority_is_old(home: BackedUp) -> None:
    """The backup, of before there was any CRL beside the inventory, was copied over all."""
    first = home.crl.read_bytes()
    home.back_up()
    home.good("ca", "revoke", "lost")
    shutil.copytree(home.directory.parent / "backup", home.ca, dirs_exist_ok=True)
    home.crl.write_bytes(first)
    own = home.ca / "crl.pem"
    for arguments in (("broker", "reload"), ("broker", "init", "localhost", "--force")):
        assert f"{own} holds CRL" in home.bad(*arguments)
    assert serials(home.crl) == set()
    home.good("ca", "recover")
    home.good("broker", "reload")
    assert serials(home.crl) == {serial_of(home.lost)}


def test_a_higher_number_that_lists_less_is_not_taken_for_newer(
    home: BackedUp, tmp_path: Path
) -> None:
    """The restored authority has signed CRLs meanwhile, while the broker was elsewhere."""
    home.back_up()
    home.good("ca", "revoke", "lost")
    home.restore()
    elsewhere = home.broker.rename(tmp_path / "broker")
    for _ in range(3):
        home.good("ca", "crl")
    elsewhere.rename(home.broker)
    later = home.authority.inventory.newest_crl()
    assert later is not None
    assert later.number > number_of(home.crl.read_bytes())
    assert "with 1 revoked, which this authority has signed" in home.bad("broker", "reload")
    assert "Taken over: revocations: 1, certificates: 0" in home.good("ca", "recover")
    assert serials(home.crl) == {serial_of(home.lost)}


def test_the_restored_inventory_is_told_to_be_old_before_anything_goes_wrong(
    home: BackedUp,
) -> None:
    home.back_up()
    home.good("ca", "revoke", "lost")
    home.good("broker", "init", "localhost", "--force")
    home.restore()
    status, _, err = home.run("ca", "list")
    crl, server = err.splitlines()
    assert status == 0
    assert "crl.pem holds CRL" in crl
    assert "server.pem holds a certificate, serial" in server
    assert all("restored from an older backup; run ca recover" in line for line in (crl, server))
    assert home.good("ca", "recover").startswith("Taken over: revocations: 1, certificates: 1")
    home.good("ca", "list")
    assert "nothing to take over" in home.good("ca", "recover")


def test_a_number_is_not_given_twice(tmp_path: Path) -> None:
    made = datetime(2026, 1, 1, tzinfo=timezone.utc)
    home = tmp_path / "ca"

    def signed(days: int) -> int:
        return number_of(Authority.open(home, clock=lambda: made + timedelta(days)).crl_pem())

    Authority.create(home, passphrase=None, clock=lambda: made)
    numbers = [signed(1), signed(1)]
    shutil.copytree(home, tmp_path / "backup")
    numbers += [signed(2), signed(3)]
    shutil.rmtree(home)
    (tmp_path / "backup").rename(home)
    numbers += [signed(4), signed(4)]
    assert numbers == sorted(set(numbers))


def test_what_was_issued_and_revoked_after_the_backup_stays_revoked(home: BackedUp) -> None:
    """Over WebSockets, too, where Mosquitto before 2.1 shuts out ids and not serial numbers."""
    home.back_up()
    late = home.credentials("late")
    home.good("ca", "revoke", "late", "--reason", "keyCompromise")
    home.good("broker", "reload")
    home.restore()
    out = home.good("ca", "recover")
    assert "known by serial number only: 1" in out
    for arguments in (("broker", "reload"), ("ca", "crl"), ("ca", "revoke", "other")):
        home.good(*arguments)
        assert serial_of(late) in serials(home.crl)
    line = x509.load_pem_x509_crl(home.crl.read_bytes()).get_revoked_certificate_by_serial_number(
        serial_of(late)
    )
    assert line is not None
    reason = line.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    home.good("broker", "reload")
    anchor = x509.load_pem_x509_certificate((home.crl.parent / "ca.websockets.pem").read_bytes())
    assert sorted(excluded_ids(anchor, home.authority.root)) == ["late", "other"]
    assert "certificates: 1" in home.good("ca", "recover", late.certificate)
    assert [one.state for one in home.authority.find("late")] == ["revoked"]
    assert home.authority.inventory.forgotten() == ([], set())
    with home.running():
        assert not home.lets_in("late", late)


def test_a_device_of_after_the_backup_can_be_revoked(home: BackedUp) -> None:
    first = home.credentials("late")
    home.back_up()
    late = issued_credentials(
        home.directory.parent, home.authority.issue_device("late", renew=True)
    )
    home.restore()
    home.good("ca", "recover", late.certificate)
    assert [one.state for one in home.authority.find("late")] == ["superseded", "issued"]
    home.good("ca", "revoke", "late")
    assert serials(home.crl) == {serial_of(first), serial_of(late)}


def test_only_what_the_authority_has_signed_is_taken_over(home: BackedUp, tmp_path: Path) -> None:
    """A CRL of another authority of the same name would revoke devices of ours."""
    name = home.authority.root.subject.rfc4514_string().removeprefix("CN=")
    other = Authority.create(tmp_path / "other", passphrase=None, name=name)
    foreign = tmp_path / "foreign.pem"
    foreign.write_bytes(other.crl_pem())
    certificate = tmp_path / "foreign.crt"
    certificate.write_bytes(other.issue_device("lost").certificate_pem())
    for path in (foreign, certificate, tmp_path / "nothing.pem"):
        assert f"{path} holds nothing that this authority has signed" in home.bad(
            "ca", "recover", path
        )
    shutil.copy(foreign, home.crl)  # it is no CRL that ours could fall behind
    home.good("broker", "reload")
    assert home.crl.read_bytes() != foreign.read_bytes()


def test_a_new_authority_in_the_place_of_the_old_one_begins_anew(home: BackedUp) -> None:
    home.good("ca", "revoke", "lost")
    shutil.rmtree(home.ca)
    home.good("ca", "init", "--leave-keys-unencrypted")
    home.good("broker", "init", "localhost", "--force", "--port", str(home.port))
    assert serials(home.crl) == set()
    with home.running():  # the way back after the authority's key was stolen
        assert not home.lets_in("other", home.other)
        assert home.lets_in("other", home.credentials("other"))


@pytest.mark.parametrize("whole", [True, False], ids=["with its authority", "broker alone"])
def test_what_is_installed_does_not_go_back(home: BackedUp, tmp_path: Path, whole: bool) -> None:
    """The whole home comes from the backup, its broker's CRL too: Mosquitto's own is newer."""
    require_program("mosquitto")
    installed = tmp_path / "etc" / "securemqtt" / "crl.pem"
    installed.parent.mkdir(parents=True)
    home.back_up()
    before = home.crl.read_bytes()
    home.good("ca", "revoke", "lost")
    home.crl.rename(installed)
    for path in home.broker.glob("crl.newest*.pem"):
        path.unlink()
    home.restore()
    home.crl.write_bytes(before)
    if whole:
        home.good("ca", "crl")  # its number is higher than that of what is installed
    else:
        shutil.rmtree(home.ca)
    arguments = ("install", "--dry-run", "--etc", tmp_path / "etc")
    assert f"{installed} holds CRL" in home.bad("broker", *arguments)
    if whole:
        home.good("ca", "recover", installed.parent)
        assert "mosquitto.conf is missing" in home.bad("broker", *arguments)


@pytest.mark.parametrize("known", [True, False])
def test_a_new_authority_follows_what_an_old_one_has_installed(
    home: BackedUp, tmp_path: Path, known: bool
) -> None:
    """The old one's clock was ahead; a home that never knew it can go by the numbers alone."""
    require_program("mosquitto")
    installed = tmp_path / "etc" / "securemqtt" / "crl.pem"
    installed.parent.mkdir(parents=True)
    ahead = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=400)
    old = Authority.open(home.ca, clock=lambda: ahead)
    old.crl_pem()
    old.write_crl(installed)
    shutil.rmtree(home.ca)
    if not known:
        shutil.rmtree(home.broker)
    home.good("ca", "init", "--leave-keys-unencrypted")
    home.good("broker", "init", "localhost", "--force", "--port", str(home.port))
    arguments = ("install", "--dry-run", "--etc", tmp_path / "etc")
    if not known:
        assert f"If the older one is right, delete {installed}" in home.bad("broker", *arguments)
        installed.unlink()
    assert "mosquitto.conf is missing" in home.bad("broker", *arguments)


def test_a_broker_alone_that_was_restored_asks_the_authority(
    home: BackedUp, tmp_path: Path
) -> None:
    """The authority knows what is installed, so that there is nothing to recover."""
    require_program("mosquitto")
    installed = tmp_path / "etc" / "securemqtt" / "crl.pem"
    installed.parent.mkdir(parents=True)
    before = home.crl.read_bytes()
    home.good("ca", "revoke", "lost")
    shutil.copy(home.crl, installed)
    home.crl.write_bytes(before)
    arguments = ("install", "--dry-run", "--etc", tmp_path / "etc")
    assert "Run securemqtt broker reload" in home.bad("broker", *arguments)
    home.good("broker", "reload")
    assert "mosquitto.conf is missing" in home.bad("broker", *arguments)


def test_an_inventory_of_the_first_version_is_brought_up_to_date(home: BackedUp) -> None:
    path = home.ca / "inventory.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        for table in ("forgotten_certificate", "forgotten_id"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    home.good("ca", "revoke", "lost")
    assert serials(home.crl) == {serial_of(home.lost)}


def test_what_was_denied_or_taken_away_since_is_not_given_back(
    home: BackedUp, tmp_path: Path
) -> None:
    """The whole home came from the backup: the one that it has replaced knows better."""
    home.good("broker", "grant", "other", "operator")
    home.good("broker", "allow", "lost", "read", "weather/#")
    backup, old = tmp_path / "whole", tmp_path / "old"
    shutil.copytree(home.directory, backup)
    home.good("broker", "grant", "other", "device")
    home.good("broker", "deny", "lost", "weather/secret")
    shutil.move(home.directory, old)
    shutil.copytree(backup, home.directory)
    assert home.run("broker", "who-may", "weather/secret", "lost")[0] == 0
    out = home.good("ca", "recover", old)
    assert "Taken over: rules: 2, groups: 0." in out
    assert "Taken over: roles: other (operator here, none there)." in out
    assert home.run("broker", "who-may", "weather/secret", "lost")[0] == 1
    assert "other" not in home.good("broker", "who-may", "devices/lost/t")
    acl = (home.broker / "acl").read_text()
    assert "deny weather/secret" in acl
    assert "devices/+/command/#" not in acl
    again = home.good("ca", "recover", old)
    assert "Taken over" not in again


def test_an_older_place_takes_nothing_away_from_the_rules(home: BackedUp, tmp_path: Path) -> None:
    home.good("broker", "allow", "lost", "read", "weather/#")
    older = tmp_path / "older"
    shutil.copytree(home.directory, older)
    home.good("broker", "deny", "lost", "weather/secret")
    home.good("broker", "grant", "other", "monitor")
    out = home.good("ca", "recover", older)
    assert "rules" not in out
    assert home.run("broker", "who-may", "weather/secret", "lost")[0] == 1
    home.good("broker", "grant", "other", "operator")
    shutil.copytree(home.directory, tmp_path / "grown")
    home.good("broker", "grant", "other", "device")
    out = home.good("ca", "recover", tmp_path / "grown")  # the copy is the older one
    assert "Left: roles: other (none here, operator there)." in out
    assert "other" not in home.good("broker", "who-may", "devices/lost/t")
    assert home.run("broker", "who-may", "weather/secret", "lost")[0] == 1


def test_rules_that_were_changed_as_often_on_both_sides_are_told(
    home: BackedUp, tmp_path: Path
) -> None:
    backup, old = tmp_path / "whole", tmp_path / "old"
    shutil.copytree(home.directory, backup)
    home.good("broker", "deny", "lost", "weather/secret")
    (home.directory / "app").mkdir()
    (home.directory / "app" / "broker.json").write_text("{}")  # somebody else's
    shutil.move(home.directory, old)
    shutil.copytree(backup, home.directory)
    home.good("broker", "allow", "other", "read", "weather/#")
    assert "Left: rules" in home.good("ca", "recover", old)
