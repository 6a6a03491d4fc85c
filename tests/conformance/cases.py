"""What the cases of MQTT 3.1.1 are made of: their clauses, their clients, and what a broker that
runs them is known to do otherwise.
"""

from __future__ import annotations

import struct
import sys
from contextlib import suppress
from dataclasses import dataclass

import pytest

from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from support.brokers.doors import Door
from support.brokers.mqtt import Peer, Refused
from support.packets import (
    CONNACK,
    CONNECT,
    PINGREQ,
    PINGRESP,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    Packet,
    answer,
    field,
    packet,
)

MOSQUITTO, EMBEDDED = "mosquitto", "amqtt"
CLEAN = 0x02  # of CONNECT's flags


@dataclass(frozen=True)
class Case:
    """What a test holds a broker to: a clause of the standard, and in a few words what it says."""

    clause: str
    what: str


def case(clause: str, what: str) -> pytest.MarkDecorator:
    """Name a test by its clause; it then runs once with each broker."""
    return pytest.mark.parametrize("case", [Case(clause, what)], indirect=True, ids=[clause])


@dataclass(frozen=True)
class Deviation:
    """A case that a broker is known to fail, and why; of Mosquitto only some versions, perhaps.

    It has to fail: one that begins to hold has to leave `DEVIATIONS`.
    """

    test: str
    broker: str
    why: str
    since: tuple[int, ...] = ()
    before: tuple[int, ...] = (sys.maxsize,)


DEVIATIONS = (
    Deviation("test_level_5", MOSQUITTO, "it speaks MQTT 5, too"),
    Deviation(
        "test_protocol_name_and_level",
        MOSQUITTO,
        "from 2.1 on it refuses an unknown level with a code of MQTT 5",
        since=(2, 1),
    ),
    Deviation(
        "test_overlapping",
        MOSQUITTO,
        "before 2.1 it sends one copy, with the QoS of the filter that it finds first",
        before=(2, 1),
    ),
)


def deviation(test: str, broker: str) -> Deviation | None:
    """Return what the broker that runs here is known to do otherwise in a test."""
    program = find_mosquitto() if broker == MOSQUITTO else None
    version = program.version if program is not None else ()
    for one in DEVIATIONS:
        if (one.test, one.broker) == (test, broker) and one.since <= version < one.before:
            return one
    return None


class Device:
    """A device of a case's own: its id and its certificate. Topics are the device's own, since it
    may use no others.
    """

    def __init__(self, door: Door, device_id: str) -> None:
        self._door = door
        self.id = device_id
        self._credentials = door.credentials(device_id)
        self._peers: list[Peer] = []

    def topic(self, name: str) -> str:
        """Return a topic, or filter, that the device may use; `command/…` the operator, too."""
        return f"devices/{self.id}/{name}"

    def open(self) -> Peer:
        """Open a connection, and say no CONNECT."""
        peer = self._door.peer(self._credentials)
        self._peers.append(peer)
        return peer

    def connect(self, *, clean: bool = True) -> Peer:
        """Connect as a session that is kept or not."""
        peer = self.open()
        peer.connect(self.id, clean=clean)
        return peer

    def connect_again(self) -> Peer:
        """Take a kept session up again."""
        peer = self.open()
        assert peer.connect(self.id, clean=False) is True
        return peer

    def close(self) -> None:
        for peer in self._peers:
            peer.drop()


class Bench:
    """A broker, and the clients of one case."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._devices: list[Device] = []

    def device(self) -> Device:
        """Return a device with an id that no other case uses."""
        return self._add(Device(self._door, self._door.new_id()))

    def operator(self) -> Peer:
        """Connect the client that reads all devices and commands them."""
        return self._add(Device(self._door, "controller")).connect()

    def monitor(self) -> Peer:
        """Connect the client that may read `$SYS`, where there is one."""
        return self._add(Device(self._door, "watcher")).connect()

    def close(self) -> None:
        for device in self._devices:
            device.close()

    def _add(self, device: Device) -> Device:
        self._devices.append(device)
        return device


def connect(
    client_id: str,
    flags: int = CLEAN,
    *,
    name: str = "MQTT",
    level: int = 4,
    keep_alive_s: int = 60,
    properties: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    """Put a CONNECT together as it should not be, perhaps."""
    head = field(name) + struct.pack("!BBH", level, flags, keep_alive_s)
    return packet(CONNECT, head + properties + field(client_id) + rest)


def ends_connection(peer: Peer, data: bytes) -> bool:
    """Return True if the broker answers this by closing the connection, and no packet before.

    One that goes on answers the ping that follows.
    """
    with suppress(Refused):
        peer.send(data + packet(PINGREQ))
    try:
        while True:
            got = peer.receive_packet()
            if got.kind != PUBLISH:
                return False
    except Refused:
        return True


def refusal(peer: Peer, data: bytes) -> int | None:
    """Send a CONNECT and return the code of its CONNACK, None if the connection is closed without
    one; AssertionError if it stays open after a code other than 0.
    """
    try:
        code = peer.ask(data, CONNACK).body[1]
    except Refused:
        return None
    if code:
        assert ends_connection(peer, b"")
    return code


def receive(peer: Peer) -> Packet:
    """Return the next message, and go through what its QoS demands."""
    message = peer.receive_unacknowledged()
    peer.acknowledge(message)
    if message.qos == 2:
        release = peer.ask(answer(PUBREC, message.packet_id), PUBREL)
        assert release.packet_id == message.packet_id
        peer.send(answer(PUBCOMP, message.packet_id))
    return message


def payloads_until(peer: Peer, last: bytes) -> list[bytes]:
    """Return the payloads that come before the one of a message known to be the last."""
    payloads = []
    while (payload := receive(peer).payload) != last:
        payloads.append(payload)
    return payloads


def pings(peer: Peer) -> bool:
    """Return True if the connection is served."""
    return peer.ask(packet(PINGREQ), PINGRESP) == Packet(PINGRESP, b"")
