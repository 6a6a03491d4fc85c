"""The diagnosis' second connection: made only where the first one told too little, within the time
that `connect` was given, and without asking the program for the key's password again.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from securemqtt import Client
from securemqtt.errors import ConnectionLost, SecureMQTTError
from support.brokers.servers import tcp_server
from support.identities.laboratory import RUN_S, Device, Laboratory
from support.interpreters.micropython import micropython_command, micropython_environment

TIMED = """\
import sys, time
from securemqtt import Client, log_to
from securemqtt.errors import SecureMQTTError
log_to(lambda level, text: None)
client = Client(sys.argv[1])
begun = time.time()
try:
    client.connect(float(sys.argv[2]))
except SecureMQTTError as error:
    print(type(error).__name__ + ":", error)
print(time.time() - begun)
"""


def _connect(device: Device, bundle: Path, timeout_s: float) -> tuple[str, float]:
    """Have it connect in so much time; return its error and how long it took."""
    command = micropython_command() if device.is_board else [sys.executable]
    done = subprocess.run(
        [*command, "-c", TIMED, str(bundle), str(timeout_s)],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=True,
        env=micropython_environment() if device.is_board else dict(os.environ),
    )
    text, seconds = done.stdout.splitlines()
    return text, float(seconds)


def _turn_away(
    context: ssl.SSLContext, versions: list[str | None], connection: socket.socket
) -> None:
    """Shake hands, read CONNECT, and hang up without a word."""
    with context.wrap_socket(connection, server_side=True) as secured:
        versions.append(secured.version())
        secured.recv(4096)


@pytest.mark.parametrize(
    ("attributes", "connections"),
    [
        # The handshake ends with the broker's approval.
        ({"maximum_version": ssl.TLSVersion.TLSv1_2}, 1),
        # So do the tickets of 1.3, which are sent after it.
        ({}, 1),
        ({"num_tickets": 0}, 2),
    ],
    ids=["1.2", "1.3", "1.3 without tickets"],
)
def test_a_certificate_that_was_taken_is_not_asked_about(
    lab: Laboratory, device: Device, attributes: dict[str, object], connections: int
) -> None:
    if device.is_board and "maximum_version" not in attributes:
        pytest.skip("MicroPython has no TLS 1.3")
    context = lab.context(**attributes)
    versions: list[str | None] = []
    with tcp_server(lambda one: _turn_away(context, versions, one)) as port:
        report = device.fails(lab.bundle(device, port), "ConnectionLost")
    assert "turns away without a word" in report.cause
    assert len(versions) == connections, versions


def test_it_keeps_to_the_time_of_connect(lab: Laboratory, device: Device) -> None:
    """The first connection ends in the handshake, the second one stays without an answer."""
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(connection.recv(4096))
        while len(seen) > 1 and connection.recv(4096):
            pass

    with tcp_server(serve) as port:
        bundle = lab.bundle(device, port)
        for _ in range(5):
            name, seconds = _connect(device, bundle, 2)
            if len(seen) == 2:
                break
            seen.clear()  # 2 s were too few on this machine, just now
    assert name.split(":")[0] in ("ConnectionLost", "TimedOut"), name
    assert len(seen) == 2
    assert 1 < seconds < 4.5  # a probe of 5 s would end later


def test_without_time_it_says_that_it_did_not_ask(lab: Laboratory, device: Device) -> None:
    seen: list[bytes] = []
    with tcp_server(lambda connection: seen.append(connection.recv(4096))) as port:
        bundle = lab.bundle(device, port)
        text, _ = _connect(device, bundle, 0.4)
    assert len(seen) <= 1
    assert "or too little time" in text or "within 0.4 s" in text


def test_the_password_is_asked_for_once(lab: Laboratory) -> None:
    pi = Device("cpython")
    asked: list[int] = []

    def password() -> str:
        asked.append(1)
        if len(asked) > 1:
            raise ValueError("the vault is locked")
        return "correct horse"

    context = lab.context(num_tickets=0)
    versions: list[str | None] = []
    with tcp_server(lambda one: _turn_away(context, versions, one)) as port:
        bundle = lab.bundle(pi, port)
        config = json.loads((bundle / "config.json").read_text())
        issued = lab.now.issue_device(config["client_id"], renew=True)
        (bundle / "device0.crt").write_bytes(issued.chain_pem())
        (bundle / "device.key").write_bytes(issued.key_pem(b"correct horse"))
        client = Client(bundle, key_password=password)
        with pytest.raises(SecureMQTTError) as caught:
            client.connect(20)
    assert type(caught.value) is ConnectionLost
    assert len(versions) == 2
    assert len(asked) == 1
