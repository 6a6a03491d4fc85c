"""A broker's issuing key: short-lived certificates without the authority, and nothing else that it
could be misused for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.health import warnings
from securemqtt_tools.broker.issuing import renew, set_up
from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.keys import generate_key, key_pem, load_key
from securemqtt_tools.pki.names import server_name
from securemqtt_tools.pki.profiles import DEVICE, SERVER, Issuer, ca_certificate, leaf_certificate
from support.brokers.doors import Door
from support.brokers.mqtt import Refused
from support.identities.bundles import write_bundle
from support.identities.credentials import write_credentials
from support.interpreters.micropython import micropython_command, micropython_environment
from support.requirements import require_program
from support.speed import seconds

SCRIPT = Path(__file__).parents[2] / "tools" / "broker.py"
SECRET = b"correct horse battery"
NAMES = ["localhost", "127.0.0.1"]
# What `systemd-creds encrypt` (252) made of some words.
CREDENTIAL = """\
Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAAClv6pYTokJJcYtgBEAAAAAFOUJjZfcWOk+wNE
Olhy7GOgv57aUz8alGC1cv93ipSsSMh69p5BACzf+aDZRSJcHZZcRiwFrI23xp/7dItDxgIyjsMBWrI
tEmO6G8DsQVg==
"""
CONNECT = """\
import sys
from securemqtt import Client
from securemqtt.errors import SecureMQTTError
try:
    client = Client(sys.argv[1], connect_timeout_s=5)
    client.on_error(lambda error: print("told", type(error).__name__))
    with client:
        client.publish("~/reading", b"21")
        print("flushed", client.connected and client.flush(20))
except SecureMQTTError as error:
    print("raised", type(error).__name__)
"""


@pytest.fixture(params=[False, True], ids=["root", "intermediate"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Authority:
    """Make an authority of each kind."""
    return Authority.create(tmp_path / "home" / "ca", passphrase=None, intermediate=request.param)


@pytest.fixture
def config(own: Authority, tmp_path: Path) -> BrokerConfig:
    """Set up a broker with an issuing key."""
    made = BrokerConfig.create(
        tmp_path / "home" / "broker",
        own,
        names=NAMES,
        port=0,
        websockets_port=0,
        roles={"controller": "operator"},
    )
    return set_up(made, own, SECRET, days=90)


def stolen(config: BrokerConfig) -> Issuer:
    """Return the issuing key, as whoever has its passphrase, too, has it."""
    certificate = config.issuer_certificate()
    return Issuer(certificate, load_key(config.directory / "issuer.key", certificate, SECRET))


def minted(issuer: Issuer, role: str, name: str, *names: x509.GeneralName) -> tuple[bytes, bytes]:
    """Return chain and key of a certificate that the issuing key should not make."""
    key, now = generate_key("p256"), datetime.now(timezone.utc).replace(microsecond=0)
    certificate = leaf_certificate(
        role, name, names, key.public_key(), now - timedelta(1 / 24), now + timedelta(1), issuer
    )
    return certificate_pem(certificate) + certificate_pem(issuer.certificate), key_pem(key)


def without_purpose(issuer: Issuer, name: str) -> tuple[bytes, bytes]:
    """Return chain and key of a certificate that says nothing of what it is for."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(issuer.certificate.subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(issuer.key, hashes.SHA256())
    )
    return certificate_pem(certificate) + certificate_pem(issuer.certificate), key_pem(key)


def reports(own: Authority, directory: Path, port: int, *, board: bool) -> str:
    """Have a device, a board or a Pi, publish something; return how that went."""
    bundle = write_bundle(directory / "bundle", own, "reporter", port=port, board=board)
    done = subprocess.run(
        [*(micropython_command() if board else [sys.executable]), "-c", CONNECT, str(bundle)],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
        env=micropython_environment() if board else None,
    )
    return done.stdout + done.stderr


def run(directory: Path, *arguments: str | Path) -> int:
    return main([*map(str, arguments), "--home", str(directory)], command="broker")


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
def test_devices_take_what_it_issues(
    own: Authority, config: BrokerConfig, tmp_path: Path, engine: str
) -> None:
    if engine == "mosquitto":
        require_program("mosquitto")
    certificate = config.server_certificate()
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=90) <= life <= timedelta(days=90, hours=1)
    assert certificate.issuer == config.issuer_certificate().subject
    with BrokerProcess(config.directory, engine=engine) as broker:
        door = Door(broker, own, tmp_path)
        door.enter("pump").drop()
        for board in (False, True):
            assert (
                reports(own, tmp_path / str(board), broker.port, board=board)[-13:]
                == "flushed True\n"
            )
        assert renew(config, SECRET, own.now, always=True)
        broker.reload()
        assert config.server_certificate().public_key() != certificate.public_key()
        door.enter("pump").drop()


@pytest.fixture(params=["mosquitto", "mosquitto-wss", "amqtt", "amqtt-wss"])
def door(
    request: pytest.FixtureRequest, own: Authority, config: BrokerConfig, tmp_path: Path
) -> Iterator[Door]:
    """Run the broker; enter by each transport."""
    engine, _, websockets = request.param.partition("-")
    if engine == "mosquitto":
        require_program("mosquitto")
    with BrokerProcess(config.directory, engine=engine) as broker:
        yield Door(broker, own, tmp_path, websockets=bool(websockets))


@pytest.mark.parametrize(
    "forge",
    [
        lambda issuer: minted(issuer, DEVICE, "controller"),
        lambda issuer: minted(issuer, DEVICE, "controller", x509.DNSName("localhost")),
        lambda issuer: without_purpose(issuer, "controller"),
    ],
    ids=["client", "client with the broker's name", "no purpose"],
)
def test_nobody_enters_with_what_a_stolen_issuing_key_makes(
    door: Door, tmp_path: Path, forge: Callable[[Issuer], tuple[bytes, bytes]]
) -> None:
    """A stolen broker is no stolen authority: it would be the operator's identity otherwise."""
    door.enter("controller").drop()
    forged = write_credentials(tmp_path / "forged", *forge(stolen(door.broker.config)))
    with pytest.raises(Refused):
        door.enter("controller", forged)


def openssl_verifies(config: BrokerConfig, chain: bytes, name: str) -> str:
    """Return "" if OpenSSL takes a server's chain for a name, else what it says."""
    (config.directory.parent / "chain.pem").write_bytes(chain)
    leaf = config.directory.parent / "chain.pem"
    done = subprocess.run(
        [
            *(require_program("openssl"), "verify", "-x509_strict", "-purpose", "sslserver"),
            *("-verify_hostname", name, "-CAfile", config.directory / "ca.pem"),
            *("-untrusted", leaf, leaf),
        ],
        capture_output=True,
        text=True,
        timeout=seconds(30),
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_computers_hold_it_to_the_brokers_names(config: BrokerConfig) -> None:
    issuer = stolen(config)
    good, _ = minted(issuer, SERVER, "localhost", x509.DNSName("localhost"))
    assert openssl_verifies(config, good, "localhost") == ""
    other, _ = minted(issuer, SERVER, "bank.example", x509.DNSName("bank.example"))
    assert "permitted subtree violation" in openssl_verifies(config, other, "bank.example")
    key, now = generate_key("p256"), datetime.now(timezone.utc).replace(microsecond=0)
    below = ca_certificate(
        "below", key.public_key(), 0, now - timedelta(1 / 24), now + timedelta(1), issuer
    )
    chain, _ = minted(Issuer(below, key), SERVER, "localhost", x509.DNSName("localhost"))
    assert "path length constraint exceeded" in openssl_verifies(
        config, chain + certificate_pem(issuer.certificate), "localhost"
    )


@pytest.mark.parametrize(
    ("names", "other"),
    [
        (["mqtt.local"], "10.0.0.1"),
        (["10.0.0.1"], "mqtt.local"),
        (["10.0.0.1"], "10.0.0.2"),
        (["10.0.0.1"], "fd00::1"),
    ],
    ids=str,
)
def test_a_kind_of_name_that_the_broker_has_not_is_shut_out(
    tmp_path: Path, names: list[str], other: str
) -> None:
    own = Authority.create(tmp_path / "ca", passphrase=None)
    config = set_up(
        BrokerConfig.create(tmp_path / "broker", own, names=names), own, SECRET, days=30
    )
    for name, wrong in ((names[0], ""), (other, "subtree violation")):
        chain, _ = minted(stolen(config), SERVER, "x", server_name(name))
        (tmp_path / "chain.pem").write_bytes(chain)
        done = subprocess.run(
            [
                *(require_program("openssl"), "verify", "-x509_strict", "-CAfile"),
                *(config.directory / "ca.pem", "-untrusted", tmp_path / "chain.pem"),
                tmp_path / "chain.pem",
            ],
            capture_output=True,
            text=True,
            timeout=seconds(30),
            check=False,
        )
        assert (done.returncode == 0) == (not wrong)
        assert wrong in done.stderr


@pytest.mark.parametrize(
    ("kind", "outcome"), [("pi", "permitted subtree violation"), ("board", "flushed True")]
)
def test_a_board_does_not_hold_it_to_them(
    own: Authority, tmp_path: Path, kind: str, outcome: str
) -> None:
    """As docs/certificates.md says, so that nobody relies on the constraint for a board."""
    require_program("mosquitto")
    made = BrokerConfig.create(
        tmp_path / "broker", own, names=["mqtt.local"], port=0, bind="127.0.0.1"
    )
    config = set_up(made, own, SECRET, days=90)
    chain, key = minted(stolen(config), SERVER, "localhost", x509.DNSName("localhost"))
    (config.directory / "server.pem").write_bytes(key + chain)
    with BrokerProcess(config.directory, engine="mosquitto") as broker:
        assert outcome in reports(own, tmp_path, broker.port, board=kind == "board")


def test_it_renews_after_a_third_and_without_the_authority(
    own: Authority, config: BrokerConfig
) -> None:
    own.directory.rename(own.directory.with_name("elsewhere"))
    first, begin = config.server_certificate(), own.now
    asked: list[bool] = []

    def ask() -> bytes:
        asked.append(True)
        return SECRET

    assert not renew(config, ask, begin + timedelta(days=29))
    assert (asked, config.server_certificate()) == ([], first)
    assert warnings(config, begin + timedelta(days=44)) == []
    (alarm,) = warnings(config, begin + timedelta(days=46))
    assert "its certificate runs out on" in alarm
    assert "run securemqtt broker renew, and see why" in alarm
    assert renew(config, ask, begin + timedelta(days=31))
    second = config.server_certificate()
    assert asked == [True]
    assert second.public_key() != first.public_key()
    assert second.not_valid_after_utc == begin + timedelta(days=31 + 90)
    with pytest.raises(FatalError, match="wrong passphrase"):
        renew(config, b"another passphrase", begin, always=True)
    assert config.server_certificate() == second
    with pytest.raises(FatalError, match=r"ended on .* broker issuer where the authority is"):
        renew(config, ask, begin + timedelta(days=826))


def test_nothing_outlives_the_issuing_key(config: BrokerConfig) -> None:
    end = config.issuer_certificate().not_valid_after_utc
    assert renew(config, SECRET, end - timedelta(days=10))
    assert config.server_certificate().not_valid_after_utc == end


def test_a_refresh_by_the_authority_leaves_it_alone(own: Authority, config: BrokerConfig) -> None:
    first = config.server_certificate()
    later = Authority.open(own.directory, clock=lambda: own.now + timedelta(days=80))
    assert config.refresh(later).server_certificate() == first


def test_an_authority_of_before_allows_none(tmp_path: Path) -> None:
    own = Authority.create(tmp_path / "ca", passphrase=None)
    now = own.now
    key = load_key(own.directory / "root.key", own.root, None)
    old = ca_certificate("old", key.public_key(), 0, now, now + timedelta(days=1000), key)
    (own.directory / "root.crt").write_bytes(certificate_pem(old))
    config = BrokerConfig.create(tmp_path / "broker", Authority.open(own.directory), names=NAMES)
    with pytest.raises(FatalError, match="the root of this authority allows no key below it"):
        set_up(config, Authority.open(own.directory), SECRET, days=90)
    assert not config.has_issuer


def test_the_command(own: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = own.directory.parent
    secret = tmp_path / "issuer-passphrase"
    secret.touch(mode=0o600)
    secret.write_bytes(SECRET)
    root_key = (home / "ca" / "root.key").rename(tmp_path / "offline.key")
    with_secret = ("--issuer-passphrase-file", secret)
    if own.intermediate is None:
        root_key = root_key.rename(home / "ca" / "root.key")
    assert run(home, "init", "localhost") == 0
    assert run(home, "renew", *with_secret) == 1
    assert "there is no issuing key" in capsys.readouterr().err
    assert run(home, "issuer", "--days", "91", *with_secret) == 1
    capsys.readouterr()
    assert run(home, "issuer", "--days", "30", "--root-key", root_key, *with_secret) == 0
    end = BrokerConfig.open(home / "broker").issuer_certificate().not_valid_after_utc
    assert f"The one of before is good until {end:%Y-%m-%d}, for" in capsys.readouterr().out
    config = BrokerConfig.open(home / "broker")
    assert config.certificate_days == 30
    assert b"ENCRYPTED" in (home / "broker" / "issuer.key").read_bytes()
    capsys.readouterr()
    assert run(home, "renew", *with_secret) == 0
    assert "nothing to renew" in capsys.readouterr().out
    before = config.server_certificate()
    assert run(home, "renew", "--now", *with_secret) == 0
    assert "a new certificate, with a new key" in capsys.readouterr().out
    assert config.server_certificate() != before
    assert main(["revoke", "localhost", "--role=server", "--home", str(home)], command="ca") == 0
    said = capsys.readouterr().out
    assert "is of its issuing key, and not among these" in said
    assert said.rstrip().endswith("a new key: securemqtt broker renew --now.")
    assert main(["list", "--home", str(home)], command="ca") == 0
    assert capsys.readouterr().err == ""
    assert run(home, "init", "localhost", "--force") == 0
    assert "make one with securemqtt broker issuer" in capsys.readouterr().out
    assert not BrokerConfig.open(home / "broker").has_issuer


def test_without_a_terminal_the_remedy_names_the_right_option(
    config: BrokerConfig,
) -> None:
    """A process of its own, in a session of its own, has no terminal to ask at."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "renew", "--now"],
        env={**os.environ, "SECUREMQTT_HOME": str(config.directory.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=seconds(60),
        check=False,
    )
    assert done.returncode == 1
    assert "no terminal to ask for it, so give --issuer-passphrase-file FILE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_credential_of_systemd_is_no_passphrase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the page has it made: whoever gives that file is told how to get at what is in it."""
    authority = Authority.create(tmp_path / "ca", passphrase=None)
    config = BrokerConfig.create(tmp_path / "broker", authority, names=NAMES)
    set_up(config, authority, SECRET, days=90)
    credential = tmp_path / "issuer passphrase"
    credential.touch(mode=0o600)
    credential.write_text(CREDENTIAL)
    given = ["renew", "--now", "--home", str(tmp_path), "--issuer-passphrase-file"]
    assert main([*given, str(credential)], command="broker") == 1
    said = capsys.readouterr().err
    assert f"sudo systemd-creds decrypt '{credential}' - shows what is in it" in said
    credential.write_text("two lines\nof words\n")
    assert main([*given, str(credential)], command="broker") == 1
    assert "must hold one line, the secret alone" in capsys.readouterr().err
