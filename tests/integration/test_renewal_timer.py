"""The timer of docs/certificates.md, with a real systemd: it renews the certificate of an installed
Mosquitto by a key whose passphrase is an encrypted credential.
"""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.issuing import set_up
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.keys import generate_key, key_pem, load_key
from securemqtt_tools.pki.profiles import SERVER, Issuer, leaf_certificate
from support.network.net import free_port
from support.requirements import unavailable
from support.speed import seconds
from support.systemd.machine import SHARED, Machine

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "certificates.md"
PROGRAM = "/home/pi/securemqtt/.venv/bin/securemqtt"
SECRET = b"correct horse battery"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    with Machine(shared) as made:
        for program in ("mosquitto", "systemd-creds"):
            if made.run("which", program).returncode:
                unavailable(f"{program} is not installed: apt-get install mosquitto systemd")
        if made.run(sys.executable, "-c", "import securemqtt_tools").returncode:
            unavailable("this Python is not to be seen in the machine with systemd")
        yield made


def units() -> dict[str, str]:
    """Return the units that the page tells people to write, by name."""
    found = re.findall(
        r"`/etc/systemd/system/(\S+)`.*?```ini\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    return dict(found)


def shown(port: int, ca: Path) -> x509.Certificate:
    """Return the certificate that a broker shows."""
    pem = ssl.get_server_certificate(("localhost", port), ca_certs=str(ca), timeout=seconds(5))
    return x509.load_pem_x509_certificate(pem.encode())


def age(config: BrokerConfig, now: datetime) -> None:
    """Have the broker show a certificate of which half the life is over."""
    signer = config.issuer_certificate()
    issuer = Issuer(signer, load_key(config.directory / "issuer.key", signer, SECRET))
    key, days = generate_key("p256"), timedelta(days=15)
    names = [x509.DNSName("localhost")]
    old = leaf_certificate(
        SERVER, "localhost", names, key.public_key(), now - days, now + days, issuer
    )
    chain = certificate_pem(old) + certificate_pem(signer)
    (config.directory / "server.pem").write_bytes(key_pem(key) + chain)


def test_the_timer_of_the_page_renews_what_mosquitto_shows(machine: Machine) -> None:
    home = machine.shared / "home"
    own = Authority.create(home / "ca", passphrase=None)
    port = free_port()
    made = BrokerConfig.create(home / "broker", own, names=["localhost"], port=port)
    config = set_up(made, own, SECRET, days=30)
    # No authority is where the broker is.
    (home / "ca").rename(machine.shared.parent / "ca")
    (machine.shared / "issuer-passphrase").write_bytes(SECRET)
    credential = "/etc/securemqtt/issuer-passphrase"
    machine.checked("mkdir", "-p", "/etc/securemqtt")
    machine.checked(
        "systemd-creds",
        "encrypt",
        "--name=issuer-passphrase",
        SHARED / "issuer-passphrase",
        credential,
    )
    (machine.shared / "issuer-passphrase").unlink()
    command = f"{sys.executable} {ROOT}/tools/broker.py"
    found = units()
    assert set(found) == {"securemqtt-renew.service", "securemqtt-renew.timer"}
    for name, text in found.items():
        ours = text.replace(f"{PROGRAM} broker", command).replace(
            "/home/pi/.securemqtt", str(SHARED / "home")
        )
        (machine.shared / name).write_text(ours)
        machine.checked("cp", SHARED / name, f"/etc/systemd/system/{name}")
    machine.checked("systemctl", "daemon-reload")
    machine.checked("systemctl", "enable", "--now", "securemqtt-renew.timer")
    assert "securemqtt-renew.timer" in machine.checked("systemctl", "list-timers", "--all")

    def run() -> x509.Certificate:
        machine.checked("systemctl", "start", "securemqtt-renew.service")
        return shown(port, config.directory / "ca.pem")

    first = run()
    assert first == config.server_certificate()
    assert first.not_valid_after_utc - first.not_valid_before_utc < timedelta(days=31)
    assert run() == first
    age(config, own.now)
    second = run()
    assert second.public_key() != first.public_key()
    assert second == config.server_certificate()
