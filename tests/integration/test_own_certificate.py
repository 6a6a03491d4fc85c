"""This device's own certificate: when it ends is read from certificates of every form, and said
from 30 days before, on both interpreters.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from securemqtt import bundle
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.identities.laboratory import BOTH, faked_time
from support.interpreters.micropython import micropython_command, micropython_environment
from support.requirements import require_program

RUN_S = 60
# Of ten days, a part is gone.
ENDS = ("days 9 True", "days 10 True")
READ = """\
import sys
from securemqtt import bundle
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        print(bundle.not_after(file.read()))
"""
STAY = """\
import sys, time
from securemqtt import Client, log_to
from securemqtt.errors import SecureMQTTError
log_to(lambda level, text: print("log", level, text) if "certificate" in text else None)
client = Client(sys.argv[1], certificate_warning_days=int(sys.argv[2]))
client.on_error(lambda error: print("told", type(error).__name__))
try:
    with client:
        end = time.time() + 20
        while "certificate_days" not in client.stats and time.time() < end:
            client.wait(0.05)
        client.wait(0.2)
        print("days", client.stats.get("certificate_days"), client.connected)
except SecureMQTTError as error:
    print("raised", type(error).__name__)
"""


def _run(interpreter: str, program: str, *arguments: str, **environment: str) -> list[str]:
    """Run a program under an interpreter; return the lines that it prints."""
    board = interpreter == "micropython"
    command = micropython_command() if board else [sys.executable]
    done = subprocess.run(
        [*command, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
        env={**(micropython_environment() if board else os.environ), **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def _certificates(seed: int) -> dict[bytes, str]:
    """Return certificates in DER, each with its end."""
    chance = random.Random(seed)
    keys = (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate())
    rsa_key = rsa.generate_private_key(65537, 2048)
    found = {}
    for number in range(40):
        key = rsa_key if number % 10 == 0 else chance.choice(keys)
        # On both sides of what makes a time another type, and lengths take more bytes; with what
        # stands before an end in the issuer, too.
        names = ["x" * chance.randint(1, 64) for _ in range(chance.choice((1, 2, 9)))]
        names += ["Z\x17\x0d260101000000Z"] * chance.randint(0, 1)
        begin = datetime(chance.choice((1951, 2001, 2025, 2049)), 12, 31, tzinfo=timezone.utc)
        end = begin + timedelta(seconds=chance.randint(1, 80 * 365 * 86400))
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in names])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key())
            .serial_number(chance.getrandbits(chance.choice((8, 64, 159))) + 1)
            .not_valid_before(begin)
            .not_valid_after(end)
            .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
        )
        found[certificate.public_bytes(Encoding.DER)] = end.strftime("%Y%m%d%H%M%S")
    return found


def test_the_end_is_read_from_certificates_of_every_form(tmp_path: Path) -> None:
    seed = int(os.environ.get("SECUREMQTT_SEED") or random.randrange(1 << 32))
    print(f"to repeat this: SECUREMQTT_SEED={seed}")
    certificates = _certificates(seed)
    names = []
    for number, content in enumerate(certificates):
        path = tmp_path / f"{number}.der"
        path.write_bytes(content)
        names.append(str(path))
    for interpreter in BOTH:
        assert _run(interpreter, READ, *names) == list(certificates.values())


def test_what_is_no_certificate_has_no_end() -> None:
    whole = next(iter(_certificates(1)))
    end = bundle.not_after(whole)
    for size in range(len(whole)):
        assert bundle.not_after(whole[:size]) == ""
    for content in (b"", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\0" * 100):
        assert bundle.not_after(content) == ""
    chance = random.Random(1)
    for _ in range(2000):  # damaged ones raise nothing
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        assert len(bundle.not_after(bytes(damaged))) in (0, len(end))


def test_seconds_are_counted_as_the_calendar_does() -> None:
    chance = random.Random(2)
    for _ in range(500):
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(
            seconds=chance.randrange(200 * 365 * 86400)
        )
        before = datetime.now(timezone.utc)
        left_s = bundle.seconds_left(moment.strftime("%Y%m%d%H%M%S"))
        after = datetime.now(timezone.utc)
        assert (moment - after).total_seconds() - 1 <= left_s
        assert left_s <= (moment - before).total_seconds() + 1


@pytest.fixture
def short_lived(authority: Authority, broker: BrokerProcess, tmp_path: Path) -> dict[str, Path]:
    """Make a bundle per interpreter whose certificate ends in ten days."""
    require_program("mosquitto")
    bundles = {}
    for interpreter in BOTH:
        board = interpreter == "micropython"
        device_id = f"short-{interpreter}"
        path = write_bundle(
            tmp_path / interpreter, authority, device_id, port=broker.port, board=board
        )
        issued = authority.issue_device(device_id, days=10, renew=True)
        (path / "device0.crt").write_bytes(
            issued.certificate_der() if board else issued.chain_pem()
        )
        (path / "device.key").write_bytes(issued.key_der() if board else issued.key_pem())
        bundles[interpreter] = path
    return bundles


@pytest.mark.parametrize("interpreter", BOTH)
def test_it_says_when_it_ends_soon(interpreter: str, short_lived: dict[str, Path]) -> None:
    said = _run(interpreter, STAY, str(short_lived[interpreter]), "30")
    warnings = [line for line in said if line.startswith("log warning")]
    assert len(warnings) == 1
    assert f"the certificate of short-{interpreter} ends on 20" in warnings[0]
    assert re.search(r", (9|10) days from now\.", warnings[0])
    assert f"--id short-{interpreter} " in warnings[0]
    assert "renew it there, then provision with --ca, --certificate and --key" in warnings[0]
    assert said.count("told ClientCertificateExpiring") == 1
    assert said[-1] in ENDS


@pytest.mark.parametrize("interpreter", BOTH)
def test_it_says_nothing_before_that(interpreter: str, short_lived: dict[str, Path]) -> None:
    assert _run(interpreter, STAY, str(short_lived[interpreter]), "8")[0] in ENDS


@pytest.mark.parametrize("interpreter", BOTH)
def test_one_that_has_ended_is_raised_without_the_network(
    interpreter: str, short_lived: dict[str, Path]
) -> None:
    later = datetime.now(timezone.utc) + timedelta(days=11)
    clock = faked_time(later.strftime("%Y-%m-%d %H:%M:%S"))
    path = short_lived[interpreter]
    assert _run(interpreter, STAY, str(path), "30", **clock) == ["raised ClientCertificateExpired"]
    # A clock that shows less than the day of provisioning proves nothing.
    config = json.loads((path / "config.json").read_text())
    config["clock_floor"] = int(later.timestamp()) + 86400
    config["ntp_host"] = None
    (path / "config.json").write_text(json.dumps(config | {"connect_timeout_s": 0.1}))
    said = _run(interpreter, STAY.replace("+ 20", "+ 0.1"), str(path), "30", **clock)
    assert "raised ClientCertificateExpired" not in said
