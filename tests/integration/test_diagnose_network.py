"""Promise 4, "It says what is wrong": each failure on the way to the broker, on both interpreters,
against real servers.
"""

from __future__ import annotations

import socket
import subprocess

import pytest

from support.brokers.servers import after, silent_port, tcp_server, tls_server, until_gone
from support.identities.laboratory import RUN_S, Device, Laboratory
from support.network.net import free_port
from support.packets import ACCEPTED


def test_nothing_is_wrong(lab: Laboratory, device: Device, mosquitto_port: int) -> None:
    assert device.run(lab.bundle(device, mosquitto_port)) is None


def test_name_not_resolved(lab: Laboratory, device: Device) -> None:
    report = device.fails(
        lab.bundle(device, 8883, host="no-such-broker.invalid"), "NameNotResolved"
    )
    assert report.transient
    assert (
        "no-such-broker.invalid" in report.what and "ping no-such-broker.invalid" in report.remedy
    )


def test_connection_refused(lab: Laboratory, device: Device) -> None:
    report = device.fails(lab.bundle(device, free_port()), "ConnectionRefused")
    assert report.transient
    assert "not running" in report.cause and "broker run" in report.remedy


def test_no_way_into_the_network(lab: Laboratory, device: Device) -> None:
    elsewhere = ("unshare", "--map-root-user", "--net")
    if subprocess.run(
        [*elsewhere, "true"], capture_output=True, check=False, timeout=RUN_S
    ).returncode:
        pytest.skip("no network namespaces here: unshare (util-linux) is not allowed to make one")
    alone = Device(device.interpreter, prefix=elsewhere)
    report = alone.fails(lab.bundle(device, 8883, host="127.0.0.1"), "NetworkError")
    assert report.transient
    assert "no way to 127.0.0.1:8883" in report.what


def test_packets_are_swallowed(lab: Laboratory, device: Device) -> None:
    with silent_port() as port:
        report = device.fails(
            lab.bundle(device, port), "TimedOut", options={"connect_timeout_s": 2}
        )
    assert report.transient
    assert "firewall" in report.cause


def test_no_answer_in_the_handshake(lab: Laboratory, device: Device) -> None:
    with tcp_server(lambda connection: _swallow(connection)) as port:
        report = device.fails(
            lab.bundle(device, port), "TimedOut", options={"connect_timeout_s": 2}
        )
    assert "does not speak TLS" in report.cause


def test_no_answer_to_connect(lab: Laboratory, device: Device) -> None:
    with tls_server(lab.context(), until_gone) as port:
        report = device.fails(
            lab.bundle(device, port), "TimedOut", options={"connect_timeout_s": 2}
        )
    assert "no MQTT broker" in report.cause


def test_closed_without_connack(lab: Laboratory, device: Device) -> None:
    with tls_server(lab.context(), after(b"", close=True)) as port:
        report = device.fails(lab.bundle(device, port), "ConnectionLost")
    assert report.transient
    assert "turns away without a word" in report.cause


def test_closed_within_the_session(lab: Laboratory, device: Device) -> None:
    with tls_server(lab.context(), after(ACCEPTED, close=True)) as port:
        report = device.fails(lab.bundle(device, port), "ConnectionLost", stay_s=10)
    assert report.transient
    assert "same client id" in report.cause
    assert "hung up after" in report.what


def _swallow(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass
