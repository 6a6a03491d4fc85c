"""Promise 4, what the broker answers to CONNECT."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from support.brokers.servers import after, mosquitto, tls_server
from support.identities.laboratory import Device, Laboratory
from support.packets import ACCEPTED


def test_not_authorised(lab: Laboratory, device: Device) -> None:
    passwords = lab.directory / "passwords"
    passwords.write_text("")
    lines = [line for line in lab.mosquitto_lines() if "identity" not in line]
    with mosquitto(lab.directory / "mosquitto", *lines, f"password_file {passwords}") as port:
        report = device.fails(
            lab.bundle(device, port),
            "NotAuthorised",
            options={"username": "me", "password": "correct horse"},
        )
    assert not report.transient
    assert report.code == "5"
    assert "horse" not in report.text


@pytest.mark.parametrize(
    ("return_code", "name"),
    [
        (1, "ProtocolRefused"),
        (2, "ClientIdRefused"),
        (3, "BrokerFull"),
        (4, "NotAuthorised"),
        (5, "NotAuthorised"),
    ],
)
def test_refused_in_connack(lab: Laboratory, device: Device, return_code: int, name: str) -> None:
    with tls_server(lab.context(), after(bytes((0x20, 2, 0, return_code)))) as port:
        report = device.fails(lab.bundle(device, port), name)
    assert report.code == str(return_code)
    assert report.transient == (name == "BrokerFull")
    if name == "NotAuthorised":  # what HiveMQ, RabbitMQ and the embedded broker use it for
        assert "networks that it is bound to" in report.cause
        assert "securemqtt broker audit-log has the reason" in report.remedy


def test_broker_at_its_limit(lab: Laboratory, device: Device) -> None:
    with (
        mosquitto(lab.directory / "mosquitto", *lab.mosquitto_lines(), "max_connections 1") as port,
        ExitStack() as stack,
    ):
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        report = device.fails(lab.bundle(device, port), "BrokerFull")
    assert report.transient
    assert "max_connections" in report.remedy


GARBAGE = {
    "not MQTT": b"HTTP/1.1 200 OK\r\n\r\n",
    "not CONNACK": b"\xd0\x00",
    "endless length": b"\x20\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
def test_malformed_answer(lab: Laboratory, device: Device, answer: bytes) -> None:
    with tls_server(lab.context(), after(answer)) as port:
        report = device.fails(lab.bundle(device, port), "MalformedPacket")
    assert report.transient
    assert "no MQTT broker" in report.cause


def test_malformed_packet_within_the_session(lab: Laboratory, device: Device) -> None:
    with tls_server(lab.context(), after(ACCEPTED + b"\x36\x07\x00\x01a\x00\x01hi")) as port:
        device.fails(lab.bundle(device, port), "MalformedPacket", stay_s=10)
