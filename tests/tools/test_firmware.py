"""firmware/main.py on CPython; that it runs on a board as well is in test_provision_board.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from securemqtt_tools.resources import firmware_directory
from support.brokers.mqtt import Peer, client_context
from support.identities.bundles import write_bundle
from support.identities.credentials import issued_credentials
from support.speed import seconds


def test_the_application_runs_on_cpython_as_on_a_board(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", authority, "firmware-pi", port=broker.port)
    bundle.chmod(0o700)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    operator = issued_credentials(tmp_path, authority.issue_device("controller", renew=True))
    with Peer(broker.port, client_context(ca, operator)) as controller:
        controller.connect("controller")
        controller.subscribe("devices/firmware-pi/#")
        program = subprocess.Popen(
            [sys.executable, str(firmware_directory() / "main.py")],
            env={**os.environ, "SECUREMQTT_BUNDLE": str(bundle)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            topics: dict[str, bytes] = {}
            while "devices/firmware-pi/reading" not in topics:
                topics.update([controller.receive()])
            assert json.loads(topics["devices/firmware-pi/reading"])["number"] == 1
            controller.publish("devices/firmware-pi/command/lamp", b"on")
            while "devices/firmware-pi/answer/lamp" not in topics:
                topics.update([controller.receive()])
            assert json.loads(topics["devices/firmware-pi/answer/lamp"])["received"] == "on"
            program.send_signal(signal.SIGINT)
            while topics.get("devices/firmware-pi/status") != b"offline":
                topics.update([controller.receive()])
            output, _ = program.communicate(timeout=seconds(30))
            assert (program.returncode, output) == (0, "")
        finally:
            program.kill()
            program.communicate()


def test_a_device_cannot_write_another_ones_line(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle", authority, "controller", port=broker.port)
    bundle.chmod(0o700)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    own = issued_credentials(tmp_path, authority.issue_device("forger", renew=True))
    lie = b"on\x1b[2J\r\ndevices/fern/reading {}\xc2\x85\xe2\x80\xa8\xe2\x80\xaegnp.exe"
    with (
        Controller(bundle) as controller,
        Peer(broker.port, client_context(ca, own)) as forger,
    ):
        forger.connect("forger")
        forger.publish("devices/forger/lie", lie, retain=True)
        shown = controller.line_of("devices/forger/lie")
        forger.publish("devices/forger/lie", b"", retain=True)
    assert shown == (
        r"devices/forger/lie on\x1b[2J\x0d\x0adevices/fern/reading {}\x85\u2028\u202egnp.exe"
    )
    assert not any(line.startswith("devices/fern/") for line in controller.lines)


class Controller:
    """pi_controller.py, and the lines that it prints; it is ended with the block."""

    def __init__(self, bundle: Path, *options: str) -> None:
        self.lines: list[str] = []
        self._command = [sys.executable, str(firmware_directory() / "pi_controller.py"), *options]
        self._environment = {**os.environ, "SECUREMQTT_BUNDLE": str(bundle)}

    def __enter__(self) -> Controller:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def line_of(self, topic: str) -> str:
        """Return the first line of a topic; it may take until the test's own limit."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith(topic + " "):
                return self.lines[-1]
        raise AssertionError(f"the program has ended: {self.lines}")
