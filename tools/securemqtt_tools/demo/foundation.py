"""Checks: the certificate authority and the broker."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cryptography import x509

from securemqtt_tools.broker import BrokerConfig, BrokerProcess, devices
from securemqtt_tools.broker.config import SERVER
from securemqtt_tools.cli import FatalError
from securemqtt_tools.demo.environment import (
    BROKER_NAMES,
    CA_NAME,
    DEVICE_ID,
    DEVICE_LINE,
    INTRUDERS,
    SUBSCRIBER_LINE,
    Environment,
    past,
)
from securemqtt_tools.demo.failure import Failed
from securemqtt_tools.demo.subscriber import SUBSCRIBER_ID
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.files import write_file
from securemqtt_tools.pki.layout import ROOT_CERTIFICATE, ROOT_KEY

_OPENSSL_S = 20


def make_authority(environment: Environment) -> str:
    """Make the CA, with a random passphrase; its key must not open without it."""
    directory = environment.directory / "ca"
    Authority.create(directory, name=CA_NAME, passphrase=environment.passphrase, clock=past)
    if b"BEGIN ENCRYPTED PRIVATE KEY" not in (directory / ROOT_KEY).read_bytes():
        raise Failed(f"{ROOT_KEY} is not encrypted")
    try:
        Authority.open(directory, passphrase=b"not the passphrase").unlock()
    except FatalError:
        environment.authority = Authority.open(directory, passphrase=environment.passphrase)
        environment.authority.unlock()
        return "P-256, in PKCS 8 with AES-256; another passphrase does not open it"
    raise Failed("it opens with a wrong passphrase")


def verify_chains(environment: Environment) -> str:
    """Issue for the broker and for a device, and have openssl look at both as strictly as it
    can.
    """
    authority = environment.authority
    BrokerConfig.create(
        environment.directory / "broker",
        authority,
        names=BROKER_NAMES,
        port=0,
        bind="127.0.0.1",
        roles={SUBSCRIBER_ID: "operator"},
        save_each_change=True,  # so that the broker's own death costs no message either
    )
    device = environment.directory / "device.pem"
    write_file(device, authority.issue_device("shed-1").chain_pem())
    root = authority.directory / ROOT_CERTIFICATE
    files = {"sslserver": environment.directory / "broker" / SERVER, "sslclient": device}
    openssl = shutil.which("openssl")
    if openssl is None:
        for path in files.values():
            x509.load_pem_x509_certificates(path.read_bytes())[0].verify_directly_issued_by(
                authority.root
            )
        return "the signatures only, since openssl is not installed (apt-get install openssl)"
    for purpose, path in files.items():
        _verify(openssl, root, purpose, path)
    return "one for the broker, one for a device"


def start_broker(environment: Environment) -> str:
    """Start the broker, and the relay through which the device and the Pi reach it."""
    directory = environment.directory / "broker"
    broker = BrokerProcess(directory, engine=environment.engine)
    if broker.must_know_devices:
        devices.expect(directory, (DEVICE_ID, SUBSCRIBER_ID, *INTRUDERS))
    environment.at_end(
        broker.stop
    )  # noted first, so that it is ended also when its start is interrupted
    broker.start()
    environment.broker = broker
    environment.device_line = environment.relay.line(DEVICE_LINE, broker.port)
    environment.subscriber_line = environment.relay.line(SUBSCRIBER_LINE, broker.port)
    return f"{broker.title}, behind a relay that taps the wire"


def _verify(openssl: str, root: Path, purpose: str, path: Path) -> None:
    command = [
        openssl,
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-CAfile",
        str(root),
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_OPENSSL_S, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"openssl refuses {path.name}: {said[-1] if said else done.returncode}")
