"""`ca device --shared`: one certificate for several devices, as a person makes it and gets rid of
it. What brokers make of it is in tests/security/test_shared_certificate.py.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from securemqtt_tools.broker.devices import read_devices
from securemqtt_tools.broker.passwords import password_matches, read_hashes
from securemqtt_tools.broker.rules_file import NAME as _RULES
from securemqtt_tools.broker.rules_file import read_rules
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.profiles import SHARED
from support.brokers.command import broker_run
from support.brokers.home import Home
from support.brokers.mqtt import Peer, Refused, client_context
from support.identities.credentials import Credentials
from support.network.net import wait_until
from support.speed import seconds


@pytest.fixture
def bare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    """Return a home with an authority and no broker."""
    return Home(tmp_path / "home", capsys, broker=False)


@pytest.fixture
def home(bare: Home) -> Home:
    """Return a home whose broker asks for passwords."""
    bare.good("broker", "init", "localhost", "--port", str(bare.port), "--passwords")
    return bare


def directory(home: Home) -> Path:
    return home.ca / "issued" / "shared" / "lamps"


def password(home: Home, identity: str) -> str:
    return (directory(home) / f"{identity}.password").read_text()


def refused(home: Home, *arguments: str) -> str:
    """Return why `ca device --shared lamps` is refused; nothing was made by it."""
    rules, entries = read_rules(home.ca), home.authority.inventory.entries()
    why = home.bad("ca", "device", *arguments, "--shared", "lamps")
    assert (read_rules(home.ca), home.authority.inventory.entries()) == (rules, entries)
    assert not directory(home).exists()
    return why


def test_one_certificate_and_a_password_for_each(home: Home) -> None:
    said = home.good("ca", "device", "a", "b", "c", "--shared", "lamps")
    assert {path.name for path in directory(home).iterdir()} == {
        "shared.crt",
        "shared.key",
        "ca.crt",
        *(f"{one}.password" for one in "abc"),
    }
    assert {stat.S_IMODE(one.stat().st_mode) for one in directory(home).iterdir()} == {0o600}
    certificate = x509.load_pem_x509_certificate((directory(home) / "shared.crt").read_bytes())
    assert certificate.subject.rfc4514_string() == "OU=shared,CN=lamps"
    hashes = read_hashes(home.broker / "passwords")
    for one in "abc":
        assert password_matches(hashes[one], password(home, one))
        assert password(home, one) not in said
        assert f"{one}.password" in said
    assert len({password(home, one) for one in "abc"}) == 3
    for where in (home.ca, home.broker):
        rules = read_rules(where)
        assert rules.groups == rules.shared == {"lamps": {"a", "b", "c"}}
    assert "What is lost by sharing" in said and "No log can prove which" in said
    # It is the certificate of no device.
    assert "lamps      shared  issued" in home.good("ca", "list")
    assert [one["role"] for one in json.loads(home.good("ca", "show", "lamps", "--json"))] == [
        "shared"
    ]
    assert home.authority.inventory.entries("device") == []
    assert read_devices(home.broker) == set()


def test_more_devices_come_to_it_and_another_certificate(home: Home) -> None:
    home.good("ca", "device", "a", "--shared", "lamps")
    before, (first,) = password(home, "a"), home.authority.inventory.entries(SHARED)
    said = home.good("ca", "device", "a", "b", "--shared", "lamps", "--group", "all")
    assert f"Group lamps has a certificate to share until {first.not_after:%Y-%m-%d}" in said
    assert "a has a password already" in said and "In group all: a, b." in said
    assert home.authority.inventory.entries(SHARED) == [first]
    assert password(home, "a") == before != password(home, "b")
    assert "stays good" not in said
    said = home.good("ca", "device", "a", "--shared", "lamps", "--renew")
    assert "What lamps has shared before stays good until" in said
    assert "securemqtt ca renew lamps --revoke-old makes another" in said
    first, second = home.authority.inventory.entries(SHARED)
    assert (first.state, second.state) == ("superseded", "issued")
    assert password(home, "a") == before
    said = home.good("ca", "renew", "lamps")
    assert "What lamps has shared before stays good until" in said
    assert len(home.authority.inventory.entries(SHARED)) == 3
    assert read_rules(home.ca).shared == {"lamps": {"a", "b"}}
    said = home.good("ca", "renew", "lamps", "--revoke-old")
    assert said.startswith(
        "This puts out every device that shows the certificate of lamps, which 2 share: a, b.\n"
    )
    assert "stays good" not in said
    states = [one.state for one in home.authority.inventory.entries(SHARED)]
    assert states == [REVOKED, REVOKED, REVOKED, "issued"]


def test_options_are_those_of_other_devices(home: Home, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", ("a", "b", "--shared", "lamps")
    options = ("--days", "30", "--der", "--network", "192.0.2.0/24")
    home.good("ca", "device", *mine, "--out", out, *options)
    assert {one.name for one in out.iterdir()} == {
        "shared.der",
        "shared.key.der",
        "ca.der",
        "a.password",
        "b.password",
    }
    (entry,) = home.authority.inventory.entries(SHARED)
    assert (entry.not_after - entry.issued_at).days == 30
    assert {one.who for one in read_rules(home.broker).networks} == {"a", "b"}
    home.good("broker", "password", "a", "--remove")
    why = home.bad("ca", "device", *mine, "--out", out)
    assert f"{out / 'a.password'} exists and was left as it is" in why


def test_who_cannot_share(home: Home) -> None:
    home.good("ca", "device", "own", "pump")
    home.good("broker", "group", "pumps", "own")
    home.good("ca", "device", "lamp-x", "--shared", "others")
    assert "own has a certificate of its own" in (why := refused(home, "a", "own"))
    assert "take it from it first, securemqtt ca revoke own" in why
    assert "pumps is the name of a group" in refused(home, "a", "pumps")
    assert "lamps is the name of the group" in refused(home, "a", "lamps")
    assert "'a/b' is no device id" in refused(home, "a/b")
    assert "shares the certificate of others" in refused(home, "lamp-x")
    assert "pump is the id of a device" in home.bad("ca", "device", "a", "--shared", "pump")
    home.good("ca", "revoke", "own")
    home.good("ca", "device", "own", "--shared", "lamps")
    assert read_devices(home.broker) == {"pump"}
    # Nor can a device have the name of a certificate that is shared, from whatever hand.
    home.good("broker", "group", "others", "--remove", "lamp-x")
    taken = "others is the name of a certificate that several devices share"
    assert taken in home.bad("ca", "device", "others")


@pytest.mark.parametrize("kind", ["hivemq", "rabbitmq"])
def test_a_broker_that_goes_by_the_certificate_alone(bare: Home, kind: str) -> None:
    bare.run("broker", "init", "localhost", "--for", kind)
    why = refused(bare, "a", "b")
    assert f"{kind} goes by the certificate alone" in why
    assert "securemqtt ca device a b" in why


def test_a_broker_that_asks_for_no_passwords_any_more(home: Home) -> None:
    home.good("ca", "device", "a", "--shared", "lamps")
    said = home.warned("broker", "init", "localhost", "--force")
    assert "none of those who share the certificate of lamps comes in as itself" in said


def test_a_broker_that_asks_for_no_passwords(bare: Home) -> None:
    bare.good("broker", "init", "localhost")
    assert "run securemqtt broker init --force --passwords first" in refused(bare, "a", "b")


def test_without_a_broker_here(bare: Home) -> None:
    said = bare.good("ca", "device", "a", "b", "--shared", "lamps")
    hashes = directory(bare) / "passwords"
    assert f"needs the lines of {hashes}" in said and "rules.json" in said
    assert {*read_hashes(hashes)} == {"a", "b"}
    assert password_matches(read_hashes(hashes)["a"], password(bare, "a"))


def test_revoking_says_whom_it_puts_out(home: Home) -> None:
    home.good("ca", "device", "a", "b", "--shared", "lamps")
    why = home.bad("ca", "revoke", "a")
    assert "a has no certificate of its own, it shares that of lamps" in why
    assert "broker password a --remove" in why and "ca revoke lamps" in why
    said = home.good("ca", "revoke", "lamps")
    assert said.startswith(
        "This puts out every device that shows the certificate of lamps, which 2 share: a, b.\n"
        "Revoked shared lamps"
    )
    (entry,) = home.authority.inventory.entries(SHARED)
    assert {one.serial_number for one in home.read_crl()} == {int(entry.serial, 16)}
    # Mosquitto before 2.1 shuts it out by its name, on WebSockets.
    assert "lamps" in json.loads((home.broker / "revoked.json").read_text()).values()
    assert "puts out every device" not in home.bad("ca", "revoke", "lamps")
    # There is no good one: another is made, and passwords stay.
    home.good("ca", "device", "a", "--shared", "lamps")
    assert [one.state for one in home.authority.inventory.entries(SHARED)] == [REVOKED, "issued"]


def test_an_own_certificate_ends_the_sharing(home: Home, tmp_path: Path) -> None:
    home.good("ca", "device", "a", "b", "c", "--shared", "lamps")
    said = home.good("ca", "device", "a")
    assert "a shares the certificate of lamps no more" in said
    bundle = tmp_path / "bundle"
    place = ("pi", "--id", "b", "--broker", f"localhost:{home.port}", "--out", bundle)
    assert "b shares the certificate of lamps no more" in home.good("provision", *place)
    for where in (home.ca, home.broker):
        assert read_rules(where).shared == {"lamps": {"c"}}
        assert read_rules(where).groups == {"lamps": {"a", "b", "c"}}
    assert {*read_hashes(home.broker / "passwords")} == {"a", "b", "c"}
    shown = "Group lamps: a, b, c; its certificate is shared by: c\n"
    assert home.good("broker", "rules") == home.good("broker", "group", "lamps") == shown
    assert json.loads(home.good("broker", "rules", "--json"))["shared"] == {"lamps": ["c"]}


def test_who_is_revoked_shares_no_more(home: Home) -> None:
    """However it came by its own certificate, and although it has shared another since."""
    home.good("ca", "device", "a", "b", "--shared", "lamps")
    home.good("ca", "device", "a")
    home.good("ca", "revoke", "a")
    home.good("ca", "device", "a", "--shared", "lamps")
    assert "a shares the certificate of lamps no more" in home.good("ca", "renew", "a")
    home.good("ca", "revoke", "a")
    home.good("ca", "device", "a", "--shared", "lamps")
    # None of its own is left to be revoked, and yet it is out.
    said = home.good("ca", "revoke", "a")
    assert "a has no certificate of its own that is still valid" in said
    assert "a shares the certificate of lamps no more" in said
    assert "securemqtt broker password a --remove" in said
    assert "nothing to revoke" in home.bad("ca", "revoke", "a")
    for where in (home.ca, home.broker):
        assert read_rules(where).shared == {"lamps": {"b"}}
    # Where both are there, from before or by other ways, revoking ends both.
    home.authority.issue_device("b")
    said = home.good("ca", "revoke", "b")
    assert "b shares the certificate of lamps no more" in said and "Revoked device b" in said
    for where in (home.ca, home.broker):
        assert read_rules(where).shared == {}


def test_sharing_ends_although_the_files_cannot_be_written(home: Home, tmp_path: Path) -> None:
    home.good("ca", "device", "a", "b", "--shared", "lamps")
    (home.ca / "issued" / "devices" / "a" / "device.key").mkdir(parents=True)
    assert "but not handed out: then run securemqtt ca renew a" in home.bad("ca", "device", "a")
    assert home.authority.inventory.entries("device", "a")
    assert read_rules(home.broker).shared == {"lamps": {"b"}}
    out = tmp_path / "bundle"
    place = ("pi", "--id", "b", "--broker", f"localhost:{home.port}", "--out", out)
    out.mkdir()
    (out / "device.key").mkdir()
    home.run("provision", *place)
    assert home.authority.inventory.entries("device", "b")
    assert read_rules(home.broker).shared == {}


def test_the_audit_log_tells_of_those_who_may_still_come_in(home: Home, tmp_path: Path) -> None:
    """By the certificate, whatever today's rules say."""
    log = tmp_path / "mosquitto.log"
    log.write_text(
        "1796000000: New client connected from 127.0.0.1:1 as lamp-4 (p2, c1, k60, u'lamp-4').\n"
    )

    def told(*options: str) -> str:
        status, said, err = home.run("broker", "audit-log", "--file", log, *options)
        assert status == 0
        return err + said

    others = "the certificate that lamps shares, or has shared, has let in whoever shared it then"
    home.good("ca", "device", "pump")
    assert "Note:" not in told()
    assert "has issued no certificate to lamp-4" in told("--id", "lamp-4")
    home.good("ca", "device", "lamp-1", "lamp-4", "--shared", "lamps")
    assert "lamp-1, lamp-4 share the certificate of lamps" in told("--id", "lamp-4")
    home.good("broker", "group", "lamps", "--remove", "lamp-4")
    assert "lamp-1 share the certificate of lamps" in (said := told()) and others in said
    for one in ("lamp-4", "pump"):
        said = told("--id", one)
        assert others in said and f"does not prove that it was {one}." in said
        assert "no certificate to" not in said and "lamp-1 share" not in said
    home.good("broker", "group", "lamps", "--remove", "lamp-1")
    home.good("ca", "revoke", "lamps")
    assert others in told("--id", "lamp-4") and others in told("--since", "1d")
    wait_until(lambda: "Note:" not in told("--since", "1s"), seconds(20), "a time without it")


def test_an_older_securemqtt_leaves_it_alone(home: Home) -> None:
    """One that knows no shared certificate would leave a revoked one out of its CRL."""

    def version() -> int:
        with closing(sqlite3.connect(home.ca / "inventory.sqlite")) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def form() -> int:
        return int(json.loads((home.ca / "rules.json").read_text())["format"])

    home.good("ca", "device", "pump", "--group", "pumps")
    assert (version(), form()) == (2, 1)
    home.good("ca", "device", "a", "--shared", "lamps")
    assert (version(), form()) == (3, 3)
    home.good("ca", "device", "other")
    assert Authority.open(home.ca).inventory.entries(SHARED)


def test_a_restored_inventory_does_not_take_it_for_a_device_s(home: Home) -> None:
    backup = (home.ca / "inventory.sqlite").read_bytes()
    home.good("ca", "device", "a", "--shared", "lamps")
    (home.ca / "inventory.sqlite").write_bytes(backup)
    assert home.authority.inventory.entries(SHARED) == []
    home.good("ca", "recover")
    (entry,) = home.authority.inventory.entries(SHARED)
    assert entry.subject == "lamps"
    assert home.authority.inventory.entries("device") == []


def lets_in(home: Home, identity: str) -> bool:
    """Return True if the running broker takes a device by what it shares."""
    credentials = Credentials(directory(home) / "shared.crt", directory(home) / "shared.key")
    context = client_context(home.broker / "ca.pem", credentials)
    try:
        with Peer(home.port, context) as peer:
            peer.connect(identity, username=identity, password=password(home, identity))
    except Refused:
        return False
    return True


def test_a_bundle_of_files_is_for_the_broker_of_this_home(home: Home, tmp_path: Path) -> None:
    """Where they are its authority's: port and rules are known."""
    home.good("ca", "device", "a", "--shared", "lamps")
    home.good("broker", "allow", "lamps", "read", "weather/now")
    files: list[str | Path] = []
    names = {"ca": "ca.crt", "certificate": "shared.crt", "key": "shared.key"}
    for option, name in (*names.items(), ("password-file", "a.password")):
        files += [f"--{option}", directory(home) / name]

    def bundle(broker: str, out: Path) -> dict[str, object]:
        place = ("pi", "--id", "a", "--broker", broker, "--out", out)
        status, said, err = home.run("provision", *place, *files)
        assert status == 0, err
        assert ("is no name of your broker" in err) == (broker != "localhost")
        assert "the certificate is the one that lamps shares" in said
        found = json.loads((out / "config.json").read_text())
        assert isinstance(found, dict)
        return found

    config = bundle("localhost", tmp_path / "here")
    assert (config["port"], config["username"]) == (home.port, "a")
    assert "imported" not in config and config["may_publish"] == ["devices/a/#"]
    assert config["may_subscribe"] == ["devices/a/#", "weather/now"]
    config = bundle("mqtt.example.org", tmp_path / "elsewhere")
    assert config["port"] == 8883 and config["imported"] and "may_publish" not in config


def test_who_has_a_certificate_of_its_own_that_has_run_out(bare: Home) -> None:
    """It may share another one, and gets in by that."""
    shutil.rmtree(bare.ca)
    past = datetime.now(timezone.utc) - timedelta(days=30)
    then = Authority.create(bare.ca, passphrase=None, clock=lambda: past)
    for one in ("a", "b"):
        then.issue_device(one, days=1)
    bare.good("broker", "init", "localhost", "--port", str(bare.port), "--passwords")
    with broker_run(bare.directory, "--engine", "amqtt"):
        bare.good("ca", "device", "a", "--shared", "lamps")
        wait_until(lambda: lets_in(bare, "a"), seconds(20), "a")
        assert read_devices(bare.broker) == {"b"}  # so RabbitMQ keeps what waits for it
        assert lets_in(bare, "a")


def test_a_running_broker_takes_it_up(home: Home) -> None:
    """Each step by the commands alone, with the embedded broker."""

    def comes_in(identity: str) -> bool:
        return lets_in(home, identity)

    with broker_run(home.directory, "--engine", "amqtt"):
        said = home.good("ca", "device", "a", "b", "c", "--shared", "lamps")
        assert "The running broker" in said
        wait_until(lambda: all(map(comes_in, "abc")), seconds(20), "all")
        # One that got a certificate of its own, and was revoked, has no way in.
        home.good("ca", "device", "c")
        home.good("ca", "revoke", "c", "--reason", "keyCompromise")
        home.good("broker", "reload")
        wait_until(lambda: not comes_in("c"), seconds(20), "that c is out")
        home.good("broker", "password", "b", "--remove")
        wait_until(lambda: not comes_in("b"), seconds(20), "that b is out")
        assert comes_in("a")
        home.good("ca", "revoke", "lamps")
        home.good("broker", "reload")
        wait_until(lambda: not comes_in("a"), seconds(20), "that a is out")


def test_a_restored_backup_learns_who_shares_no_more(home: Home, tmp_path: Path) -> None:
    """Whom the broker's CRL shows to be revoked, or who has got a certificate of its own, has no
    other way in after `ca recover` either.
    """
    home.good("ca", "device", "a", "b", "c", "--shared", "lamps")
    rules = {path: path.read_bytes() for path in (home.ca, home.broker) for path in [path / _RULES]}
    shutil.copytree(home.ca, tmp_path / "backup")
    home.good("ca", "device", "a", "b")
    home.good("ca", "revoke", "a")
    witness = tmp_path / "witness"
    witness.mkdir()
    for one in "ab":
        shutil.copy(home.ca / "issued" / "devices" / one / "device.crt", witness / f"{one}.crt")
    shutil.copy(home.crl, witness / "crl.pem")
    shutil.rmtree(home.ca)
    shutil.move(tmp_path / "backup", home.ca)
    for path, content in rules.items():
        path.write_bytes(content)
    _, said, _ = home.run("ca", "recover", witness)
    assert [line.split(" no more")[0] for line in said.splitlines() if " no more" in line] == [
        "a shares the certificate of lamps",
        "b shares the certificate of lamps",
    ]
    for where in (home.ca, home.broker):
        assert read_rules(where).shared == {"lamps": {"c"}}


def test_who_is_known_by_serial_number_only_may_still_share(bare: Home, tmp_path: Path) -> None:
    bare.good("ca", "device", "a", "--shared", "lamps")
    shutil.copytree(bare.ca, tmp_path / "backup")
    bare.good("ca", "device", "a")
    bare.good("ca", "revoke", "a")
    shutil.copy(bare.ca / "crl.pem", tmp_path / "crl.pem")
    shutil.rmtree(bare.ca)
    shutil.move(tmp_path / "backup", bare.ca)
    _, said, _ = bare.run("ca", "recover", tmp_path / "crl.pem")
    assert "still shares the certificate of lamps: a. Whom you know to be revoked, take out" in said


def test_no_device_is_called_like_a_group(home: Home, tmp_path: Path) -> None:
    """Else a denial would hit the group, and never the device."""
    home.good("broker", "group", "house", "a")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "house")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    (tmp_path / "r.csr").write_bytes(request.public_bytes(Encoding.PEM))
    taken = "house is the name of a group: choose another id"
    place = ("--broker", f"localhost:{home.port}", "--out", tmp_path / "bundle")
    assert taken in home.bad("ca", "sign", tmp_path / "r.csr", "--role", "device")
    assert taken in home.bad("ca", "device", "house")
    assert taken in home.bad("provision", "pi", "--id", "house", *place)
    assert taken in home.bad(
        "provision", "pi", "--id", "house", *place, "--group", "x", "--dry-run"
    )
    assert taken in home.bad("provision", "pi", "--id", "house", *place, "--group", "x")
    assert "x" not in read_rules(home.ca).groups
    itself = "own is the id of a device: choose another name"
    assert itself in home.bad("ca", "device", "own", "--group", "own")
    assert itself in home.bad("ca", "device", "own", "--shared", "lamps", "--group", "own")
    assert itself in home.bad("provision", "pi", "--id", "own", *place, "--group", "own")
    assert "own" not in read_rules(home.ca).groups
    assert home.authority.inventory.entries("device") == []
    # A home from before this was refused gets on.
    (home.ca / _RULES).rename(tmp_path / "aside")
    (home.broker / _RULES).rename(tmp_path / "beside")
    home.good("ca", "device", "house")
    (tmp_path / "aside").rename(home.ca / _RULES)
    home.good("ca", "renew", "house")
    home.good("broker", "group", "house", "--remove", "a")


def test_a_second_try_makes_another_password(home: Home, tmp_path: Path) -> None:
    """Whoever was taken out had the first one, and its thief has it."""
    home.good("ca", "device", "a", "b", "--shared", "lamps")
    before = password(home, "a")
    home.good("broker", "group", "lamps", "--remove", "a")
    (tmp_path / "file").write_text("")
    home.bad("ca", "device", "a", "--shared", "lamps", "--out", tmp_path / "file" / "x")
    assert read_rules(home.broker).shared == {"lamps": {"b"}}
    home.good("ca", "device", "a", "--shared", "lamps")
    assert not password_matches(read_hashes(home.broker / "passwords")["a"], before)
    assert password_matches(read_hashes(home.broker / "passwords")["a"], password(home, "a"))


@pytest.mark.parametrize("command", ["ca device", "broker password"])
def test_a_password_that_cannot_be_kept_replaces_none(
    home: Home, tmp_path: Path, command: str
) -> None:
    home.good("ca", "device", "a", "--shared", "lamps")
    hashes = read_hashes(home.broker / "passwords")
    (tmp_path / "file").write_text("")
    if command == "ca device":
        home.good("broker", "group", "lamps", "--remove", "a")
        home.bad("ca", "device", "a", "--shared", "lamps", "--out", tmp_path / "file")
    else:
        home.bad("broker", "password", "a", "--out", tmp_path / "file" / "a")
    assert read_hashes(home.broker / "passwords") == hashes


def test_rules_that_are_damaged_issue_nothing_and_keep_nobody_from_being_revoked(
    home: Home,
) -> None:
    home.good("ca", "device", "a", "--shared", "lamps")
    home.good("ca", "device", "b")
    whole = (home.broker / _RULES).read_bytes()
    (home.broker / _RULES).write_text("{")
    assert "rules.json is damaged" in home.bad("ca", "device", "new")
    assert not home.authority.inventory.entries("device", "new")
    status, said, err = home.run("ca", "revoke", "b")
    assert (status, "Revoked device b" in said, len(home.read_crl())) == (1, True, 1)
    assert "rules.json is damaged" in err and "take it out by --remove: b" in err
    status, said, err = home.run("ca", "revoke", "lamps")
    assert (status, "Revoked shared lamps" in said, len(home.read_crl())) == (0, True, 2)
    assert "rules.json is damaged" in err and "Who shares what is revoked cannot be told" in err
    (home.broker / _RULES).write_bytes(whole)
    assert "nothing to revoke" in home.bad("ca", "revoke", "b")


def test_what_fails_after_a_certificate_was_recorded_says_how_to_go_on(home: Home) -> None:
    home.good("ca", "device", "a", "--shared", "lamps")
    (home.broker / "acl").unlink()
    (home.broker / "acl").mkdir()
    (home.broker / "acl" / "x").touch()
    said = home.bad("ca", "device", "a")
    assert "the certificate of a was issued (serial " in said
    assert "but not handed out: then run securemqtt ca renew a --role device" in said


def test_who_leaves_stays_connected_until_its_files_are_there(home: Home) -> None:
    home.good("ca", "device", "a", "--shared", "lamps")
    with home.running():
        _, said, _ = home.run("ca", "device", "a", "--group", "all")
        assert said.endswith("The broker takes that up at its next reload, too.\n")
        assert read_rules(home.broker).groups["all"] == {"a"}
