"""What is in firmware/; that main.py runs on a board as well is in test_provision_board.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from securemqtt_tools.resources import firmware_directory
from support.brokers.mqtt import Peer, client_context
from support.identities.bundles import write_bundle
from support.identities.credentials import issued_credentials
from support.interpreters.micropython import micropython_command, micropython_environment
from support.speed import seconds


def _bundle_and_ca(
    directory: Path, authority: Authority, name: str, broker: BrokerProcess
) -> tuple[Path, Path]:
    """Write a program's bundle, and the CA for who looks on."""
    bundle = write_bundle(directory / "bundle", authority, name, port=broker.port)
    bundle.chmod(0o700)
    ca = directory / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    return bundle, ca


def test_the_application_runs_on_cpython_as_on_a_board(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    bundle, ca = _bundle_and_ca(tmp_path, authority, "firmware-pi", broker)
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


# What is no number of seconds to wait for: with nan a loop never waits, and with infinity it does
# nothing else.
_NO_INTERVALS = (
    *("nan", "-nan", "inf", "-inf", "1e999", "-1e999", "1e-999", "0", "-0.0", "-1", "0.09"),
    *("3600.1", "1e30", "9" * 300, "", " ", "x", "0x10", "1,5", "[1]", "true", "1 2", "0.1\0"),
)


@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_an_interval_that_is_none_is_refused(
    interpreter: str, authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    name, is_board = f"numbers-{interpreter}", interpreter == "micropython"
    bundle = write_bundle(tmp_path / "b", authority, name, port=broker.port, board=is_board)
    bundle.chmod(0o700)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.root.public_bytes(Encoding.PEM))
    operator = issued_credentials(tmp_path, authority.issue_device("controller", renew=True))
    environment = micropython_environment() if is_board else dict(os.environ)
    command = micropython_command() if is_board else [sys.executable]
    with Peer(broker.port, client_context(ca, operator)) as controller:
        controller.connect("controller")
        controller.subscribe(f"devices/{name}/#")
        program = subprocess.Popen(
            [*command, str(firmware_directory() / "main.py")],
            env={**environment, "SECUREMQTT_BUNDLE": str(bundle)},
        )

        def answer_to(asked: str) -> dict[str, object]:
            controller.publish(f"devices/{name}/command/interval", asked.encode())
            while True:
                topic, payload = controller.receive()
                if topic == f"devices/{name}/answer/interval":
                    answer: dict[str, object] = json.loads(payload)
                    assert answer["received"] == asked[:100]
                    return answer

        try:
            while controller.receive()[0] != f"devices/{name}/reading":
                pass
            for asked in _NO_INTERVALS:
                answer = answer_to(asked)
                assert answer["interval_s"] == 10 and "from 0.1 to 3600" in str(answer["error"])
            assert answer_to("3600") == {"received": "3600", "interval_s": 3600}
            assert answer_to("0.5") == {"received": "0.5", "interval_s": 0.5}
            # It still goes by it: the next reading comes in time.
            while controller.receive()[0] != f"devices/{name}/reading":
                pass
        finally:
            program.kill()
            program.wait()


@pytest.mark.parametrize("every", ["nan", "inf", "1e999", "-1", "0", "3601", "x", "\x1b[2J"])
def test_the_controller_takes_no_pause_that_is_none(every: str) -> None:
    done = subprocess.run(
        [sys.executable, str(firmware_directory() / "pi_controller.py"), f"--every={every}"],
        env={**os.environ, "SECUREMQTT_BUNDLE": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    wanted = "pi_controller: --every takes a number of seconds from 0.1 to 3600, not "
    assert done.stderr == f"{wanted}{every!r}\n"


def test_a_device_cannot_write_another_ones_line(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    bundle, ca = _bundle_and_ca(tmp_path, authority, "controller", broker)
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
