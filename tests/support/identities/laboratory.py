"""Devices that fail: the interpreters, the bundles and certificates of the tests of promise 4, "It
says what is wrong".
"""

from __future__ import annotations

import json
import os
import resource
import ssl
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.pki import Authority, Issued
from support.brokers.servers import server_context
from support.identities.bundles import write_bundle
from support.identities.credentials import Credentials, issued_credentials
from support.interpreters.micropython import ROOT, micropython_command, micropython_environment
from support.requirements import missing
from support.speed import seconds, slowness

SCENARIO = ROOT / "tests" / "integration" / "diagnose_once.py"
NAMES = ["localhost", "127.0.0.1"]
# Nothing here takes longer by itself than a few seconds; the rest is for a machine that does other
# things as well.
RUN_S = seconds(60)
BOTH = ("cpython", "micropython")


@dataclass(frozen=True)
class Report:
    """What the scenario told of its error."""

    name: str
    what: str
    cause: str
    remedy: str
    transient: bool
    code: str
    text: str


@dataclass(frozen=True)
class Device:
    """One interpreter that runs the scenario as a device would; `limit_bytes` bounds its memory, as
    a container's does.
    """

    interpreter: str
    flags: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    limit_bytes: int = 0

    @property
    def is_board(self) -> bool:
        """Whether it takes DER, and speaks TLS 1.2 only."""
        return self.interpreter == "micropython"

    def run(
        self,
        bundle: Path | str,
        *,
        stay_s: int = 0,
        left_bytes: int = 0,
        options: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Report | None:
        """Have it connect with this bundle; return what it says of its failure, None if there was
        none.
        """
        command = micropython_command(*self.flags) if self.is_board else [sys.executable]
        arguments = [
            str(bundle),
            json.dumps({"connect_timeout_s": 10 * slowness(), **(options or {})}),
            str(stay_s),
            str(left_bytes),
        ]
        done = subprocess.run(
            [*self.prefix, *command, str(SCENARIO), *arguments],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            preexec_fn=self._limit if self.limit_bytes else None,
            env={
                **(micropython_environment() if self.is_board else os.environ),
                **(environment or {}),
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        return None if answer is None else Report(**answer)

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (self.limit_bytes, self.limit_bytes))

    def fails(self, bundle: Path | str, name: str, **arguments: Any) -> Report:
        """Have it connect, and check that it fails with error `name`, explained."""
        report = self.run(bundle, **arguments)
        assert report is not None, "there was no error"
        assert report.name == name, report.text
        assert report.what and report.cause and report.remedy
        assert "{}" not in report.text
        assert "Likely cause: " in report.text and "What to do: " in report.text
        return report


def days_from_now(days: int = 0) -> datetime:
    """Return the time, in whole seconds, as certificates have it."""
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)


class Laboratory:
    """Authorities, servers' certificates and devices' bundles, also such as are out of date or from
    somewhere else.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = iter(range(1000))
        # Some days old, so that there is time for a certificate to have expired.
        self.past = Authority.create(
            directory / "ca",
            name="diagnosis test",
            passphrase=None,
            clock=lambda: days_from_now(days=-100),
        )
        self.now = Authority.open(directory / "ca")
        self.future = Authority.open(directory / "ca", clock=lambda: days_from_now(days=100))
        self.foreign = Authority.create(
            directory / "foreign", name="somebody else", passphrase=None
        )
        self.ca = self.write("ca.pem", self.now.root.public_bytes(Encoding.PEM))
        self.revoked = self.now.issue_device("revoked")
        self.now.revoke("revoked")
        self.crl = self.write("crl.pem", self.now.crl_pem())
        self.stale_crl = self.write("stale.pem", self.past.crl_pem(days=10))
        self.own = self.server()

    def write(self, name: str, content: bytes) -> Path:
        """Write a file."""
        path = self.directory / name
        path.write_bytes(content)
        return path

    def server(
        self, authority: Authority | None = None, *names: str, key_type: str = "p256"
    ) -> Credentials:
        """Issue a server's certificate, for localhost unless `names` say otherwise."""
        issued = (authority or self.now).issue_server(
            list(names) or NAMES, days=10, key_type=key_type, renew=True
        )
        return issued_credentials(self.directory / "servers", issued)

    def new_id(self) -> str:
        """Return a device id that no other test uses."""
        return f"device-{next(self._numbers)}"

    def bundle(
        self, device: Device, port: int, authority: Authority | None = None, **settings: Any
    ) -> Path:
        """Make the bundle of a new device; its own certificate comes from `authority`, its trust
        anchor is ours in any case.
        """
        device_id = self.new_id()
        bundle = write_bundle(
            self.directory / device_id,
            self.now,
            device_id,
            port=port,
            board=device.is_board,
            **settings,
        )
        if authority is not None:
            self.put(bundle, device, authority.issue_device(device_id, days=10, renew=True))
        return bundle

    def put(self, bundle: Path, device: Device, issued: Issued) -> None:
        """Put another identity into a bundle."""
        (bundle / "device0.crt").write_bytes(
            issued.certificate_der() if device.is_board else issued.chain_pem()
        )
        (bundle / "device.key").write_bytes(
            issued.key_der() if device.is_board else issued.key_pem()
        )

    def context(
        self, own: Credentials | None = None, ca: Path | None = None, **attributes: Any
    ) -> ssl.SSLContext:
        """Make the context of a TLS server that demands certificates."""
        return server_context(own or self.own, ca or self.ca, **attributes)

    def mosquitto_lines(self, crl: Path | None = None) -> list[str]:
        """Return the configuration of a Mosquitto that demands certificates."""
        lines = [
            f"cafile {self.ca}",
            f"certfile {self.own.certificate}",
            f"keyfile {self.own.key}",
            "require_certificate true",
        ]
        return [*lines, "use_identity_as_username true", *([f"crlfile {crl}"] if crl else [])]


def faked_time(text: str) -> dict[str, str]:
    """Return the environment in which the clock starts at `text`."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        missing("libfaketime", "libfaketime")
    return {"LD_PRELOAD": str(libraries[0]), "FAKETIME": f"@{text}", "DONT_FAKE_MONOTONIC": "1"}
