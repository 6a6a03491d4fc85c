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
