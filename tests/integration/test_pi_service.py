"""docs/pi-service.md is true: its program, started by its unit's line, leaves in order by
signal.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, client_context
from support.identities.bundles import write_bundle
from support.identities.credentials import issued_credentials
from support.network.net import free_port, wait_until
from support.speed import seconds

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pi-service.md"
BUSY = """\
import time

def busy(message):
    print("busy", flush=True)
    time.sleep(100)

client.subscribe("~/command/busy", busy)
with client:
"""


def _block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def _unit() -> configparser.ConfigParser:
    # strict: no setting may be there twice
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(_block("ini"))
    return unit


def _stop_s() -> int:
    """Return how long systemd waits until it kills."""
    return int(_unit()["Service"]["TimeoutStopSec"])


class Service:
    """The page's program, as systemd would start it."""

    def __init__(self, bundle: Path, directory: Path, program: str) -> None:
        unit = _unit()["Service"]
        installed = directory / "opt"
        (installed / "bin").mkdir(parents=True)
        (installed / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (installed / "bin" / "python").chmod(0o755)
        (installed / "sensor.py").write_text(program)
        places = {name: directory / name for name in ("credentials", "run", "state")}
        for place in places.values():
            place.mkdir(mode=0o700)
        identifier = unit["LoadCredential"].partition(":")[0]
        for path in bundle.iterdir():
            credential = shutil.copy(path, places["credentials"] / f"{identifier}_{path.name}")
            Path(credential).chmod(0o440)  # as its access control list makes it look
        assert unit["Environment"] == "SECUREMQTT_BUNDLE=%t/sensor"
        line = unit["ExecStart"].replace("$$", "$").replace("/opt/sensor", str(installed))
        command = re.fullmatch(r"/bin/sh -c '(.*)'", line)
        assert command is not None
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", command[1]],
            env={
                **os.environ,
                "CREDENTIALS_DIRECTORY": str(places["credentials"]),
                "RUNTIME_DIRECTORY": str(places["run"]),
                "STATE_DIRECTORY": str(places["state"]),
                "SECUREMQTT_BUNDLE": str(places["run"]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> float:
        """Stop it as systemd does, and return how long it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=_stop_s())
        assert self.process.returncode == 0, errors
        return time.monotonic() - begun


@contextmanager
def _service(bundle: Path, directory: Path, program: str) -> Iterator[Service]:
    service = Service(bundle, directory, program)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.communicate()


@contextmanager
def _operator(authority: Authority, port: int, directory: Path) -> Iterator[Peer]:
    ca = directory / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    identity = issued_credentials(directory, authority.issue_device("controller", renew=True))
    with Peer(port, client_context(ca, identity)) as peer:
        peer.connect("controller")
        yield peer


@pytest.mark.parametrize("where", ["wait", "handler"])
def test_it_leaves_in_order_by_sigterm(
    authority: Authority, broker: BrokerProcess, tmp_path: Path, where: str
) -> None:
    device_id = f"service-{where}"
    bundle = write_bundle(tmp_path / "bundle", authority, device_id, port=broker.port)
    program = _block("python")
    if where == "handler":
        program = program.replace("with client:\n", BUSY)
    with _operator(authority, broker.port, tmp_path) as operator:
        operator.subscribe(f"devices/{device_id}/#")
        with _service(bundle, tmp_path, program) as service:
            topics: dict[str, bytes] = {}
            while f"devices/{device_id}/temperature" not in topics:
                topics.update([operator.receive()])
            assert topics[f"devices/{device_id}/status"] == b"online"
            if where == "handler":
                operator.publish(f"devices/{device_id}/command/busy", b"")
                assert service.process.stdout is not None
                while service.process.stdout.readline() != "busy\n":
                    assert service.process.poll() is None
            service.stop()
            while topics[f"devices/{device_id}/status"] != b"offline":
                topics.update([operator.receive()])


def test_it_leaves_in_time_with_the_broker_away_and_keeps_what_it_had(
    authority: Authority, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", authority, "service-away", port=free_port())
    program = _block("python").replace("Client(", "Client(connect_timeout_s=1, ")
    with _service(bundle, tmp_path, program) as service:
        stored = tmp_path / "state"
        wait_until(
            lambda: any(b"celsius" in one.read_bytes() for one in stored.iterdir()), seconds(60)
        )
        service.stop()
    assert any(b"celsius" in one.read_bytes() for one in stored.iterdir())


def test_it_leaves_while_it_waits_for_its_first_connection(
    authority: Authority, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", authority, "service-early", port=free_port())
    program = _block("python").replace(
        "\nwith client:", '\nprint("entering", flush=True)\nwith client:'
    )
    with _service(bundle, tmp_path, program) as service:
        assert service.process.stdout is not None
        assert service.process.stdout.readline() == "entering\n"
        assert service.stop() < _stop_s()


def test_the_unit_is_one() -> None:
    unit = _unit()
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert unit["Service"]["DynamicUser"] == unit["Service"]["NoNewPrivileges"] == "yes"
    assert unit["Service"]["ProtectSystem"] == "strict"


def test_systemd_has_nothing_against_the_unit(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze here: package systemd")
    path = tmp_path / "sensor.service"
    path.write_text(_block("ini"))
    done = subprocess.run(
        [verify, "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "sensor.service" in line]
    assert (done.returncode, said) == (0, []), done.stderr
