"""docs/pi-service.md is true: its unit is what `service show` makes; its program, started by the
lines of that unit with a stand-in for systemd (test_service.py has the real one), leaves in order
by signal.
"""

from __future__ import annotations

import os
import re
import shlex
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
from securemqtt_tools.service.unit import Service as ServiceUnit
from securemqtt_tools.service.unit import render, uses_bundle
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


def _settings(name: str) -> list[str]:
    """Return what the unit sets, in its order."""
    lines = _block("ini").splitlines()
    return [line.removeprefix(f"{name}=") for line in lines if line.startswith(f"{name}=")]


def _setting(name: str) -> str:
    (value,) = _settings(name)
    return value


def _stop_s() -> int:
    """Return how long systemd waits until it kills."""
    return int(_setting("TimeoutStopSec"))


def _prepare() -> list[str]:
    return shlex.split(_setting("ExecStartPre").replace("$$", "$"))


class Service:
    """The page's program, as systemd would start it."""

    def __init__(self, bundle: Path, directory: Path, program: str) -> None:
        installed = directory / "opt"
        (installed / "bin").mkdir(parents=True)
        (installed / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (installed / "bin" / "python").chmod(0o755)
        (installed / "sensor.py").write_text(program)
        credentials, state = directory / "credentials", directory / "state"
        for place in (credentials, state):
            place.mkdir(mode=0o700)
        identifier = _setting("LoadCredential").partition(":")[0]
        for path in bundle.iterdir():
            credential = shutil.copy(path, credentials / f"{identifier}_{path.name}")
            Path(credential).chmod(0o440)  # as its access control list makes it look
        self.state = state
        self.errors = ""
        environment = {
            **os.environ,
            "CREDENTIALS_DIRECTORY": str(credentials),
            "STATE_DIRECTORY": str(state),
        }
        for setting in _settings("Environment"):
            name, _, value = setting.partition("=")
            environment[name] = value.replace("%S/sensor", str(state))
        subprocess.run(_prepare(), env=environment, check=True, timeout=seconds(60))
        command = _setting("ExecStart").replace("/opt/sensor", str(installed))
        self.process = subprocess.Popen(
            shlex.split(command),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> float:
        """Stop it as systemd does, and return how long it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, self.errors = self.process.communicate(timeout=_stop_s())
        assert self.process.returncode == 0, self.errors
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
        wait_until(lambda: _is_kept(service), seconds(60))
        service.stop()
    assert _is_kept(service)
    # What is wrong is in the journal once: each line is an attempt of its own.
    attempts = [line for line in service.errors.splitlines() if "refuse" in line]
    assert attempts
    assert [line for line in attempts if "Next attempt in" not in line] == []


def _is_kept(service: Service) -> bool:
    outbox = service.state / "bundle" / "outbox"
    return outbox.exists() and any(b"celsius" in one.read_bytes() for one in outbox.iterdir())


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


def test_a_start_without_credentials_ends_and_says_so(tmp_path: Path) -> None:
    """As in a container whose mounts are not shared: systemd's directory is empty there."""
    bundle = tmp_path / "bundle"
    environment = {
        **os.environ,
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "SECUREMQTT_BUNDLE": str(bundle),
    }
    done = subprocess.run(
        _prepare(),
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("securemqtt: systemd has handed over no bundle")
    assert not bundle.exists()


def _unit(bundle: Path = Path("/etc/securemqtt"), system: bool = True) -> str:
    return render(
        ServiceUnit(
            name="sensor",
            program=Path("/opt/sensor/sensor.py"),
            arguments=(),
            python=Path("/opt/sensor/bin/python"),
            bundle=bundle,
            system=system,
            owner=None,
            groups=(),
            hidden=(),
            answers_sigterm=True,
        )
    )


def test_the_unit_is_what_the_command_makes() -> None:
    assert _block("ini") == _unit()


@pytest.mark.parametrize("system", [True, False])
def test_a_unit_is_known_by_its_bundle(system: bool) -> None:
    bundle = Path("/srv/the pump's 100%")
    assert uses_bundle(_unit(bundle, system), bundle)
    assert not uses_bundle(_unit(bundle, system), Path("/srv/the"))
    assert not uses_bundle(_unit(bundle / "other", system), bundle)
