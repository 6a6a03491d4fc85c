"""MQTT 3.1.1 on the wire: CONNECT, sessions, keep-alive, wills, and the end of a connection."""

from __future__ import annotations

import time

from conformance.cases import (
    CLEAN,
    Bench,
    case,
    connect,
    ends_connection,
    payloads_until,
    pings,
    receive,
    refusal,
)
from support.brokers.mqtt import Peer, delivered
from support.packets import CONNECT, DISCONNECT, SUBSCRIBE, field, packet, publish

_ACCEPTED, _WRONG_LEVEL, _WRONG_ID = 0, 1, 2
_WILL, _WILL_RETAIN, _RESERVED = 0x04, 0x20, 0x01


def _will_qos(qos: int) -> int:
    return qos << 3


@case("MQTT-3.1.0-2", "a second CONNECT ends the connection")
def test_second_connect(bench: Bench) -> None:
    device = bench.device()
    assert ends_connection(device.connect(), connect(device.id))


@case("MQTT-3.1.2-1, -2", "no other protocol is served, and an unknown level is told so")
def test_protocol_name_and_level(bench: Bench) -> None:
    device = bench.device()
    assert refusal(device.open(), connect(device.id, name="MQTU")) != _ACCEPTED
    assert refusal(device.open(), connect(device.id, level=6)) == _WRONG_LEVEL


@case("MQTT-3.1.2-2", "MQTT 5 is told that its level is not served")
def test_level_5(bench: Bench) -> None:
    device = bench.device()
    no_properties = b"\0"
    request = connect(device.id, level=5, properties=no_properties)
    assert refusal(device.open(), request) == _WRONG_LEVEL


@case("MQTT-3.1.2-3", "a CONNECT with its reserved flag set ends the connection")
def test_reserved_flag(bench: Bench) -> None:
    device = bench.device()
    assert refusal(device.open(), connect(device.id, CLEAN | _RESERVED)) is None


@case("MQTT-3.1.3-7, -8", "a client id of no length is refused with code 2 if it has a session")
def test_client_id_of_no_length(bench: Bench) -> None:
    device = bench.device()
    assert refusal(device.open(), connect("", 0)) == _WRONG_ID
    assert refusal(device.open(), connect("", CLEAN)) == _ACCEPTED


@case("MQTT-3.1.2-11, -13 to -15", "a will's flags agree, and its QoS is one that exists")
def test_flags_of_a_will(bench: Bench) -> None:
    device = bench.device()
    will = field(device.topic("will")) + field("died")
    for flags, rest in (
        (_WILL | _will_qos(3), will),
        (_will_qos(1), b""),
        (_will_qos(2), b""),
        (_WILL_RETAIN, b""),
    ):
        assert refusal(device.open(), connect(device.id, CLEAN | flags, rest=rest)) is None
    accepted = connect(device.id, CLEAN | _WILL | _WILL_RETAIN | _will_qos(2), rest=will)
    assert refusal(device.open(), accepted) == _ACCEPTED


@case("MQTT-3.1.2-6", "a clean session begins with nothing, and leaves nothing behind")
def test_clean_session(bench: Bench) -> None:
    device, operator = bench.device(), bench.operator()
    topic = device.topic("command/x")
    kept = device.connect(clean=False)
    assert kept.subscribe(topic, 1) == 1
    kept.disconnect()
    operator.publish(topic, b"queued")

    peer = device.open()
    assert peer.connect(device.id) is False
    operator.publish(topic, b"not subscribed")
    assert delivered_to_itself(peer, device.topic("end")) == []
    peer.disconnect()

    peer = device.open()
    assert peer.connect(device.id, clean=False) is False
    operator.publish(topic, b"not subscribed, either")
    assert delivered_to_itself(peer, device.topic("end")) == []


def delivered_to_itself(peer: Peer, topic: str) -> list[bytes]:
    """Return what a client gets before what it publishes to itself now."""
    assert peer.subscribe(topic, 1) == 1
    return delivered(peer, peer, topic)


@case("MQTT-3.2.2-1 to -3", "session present says whether there is a session")
def test_session_present(bench: Bench) -> None:
    device = bench.device()
    for clean, expected in ((False, False), (False, True), (True, False), (True, False)):
        peer = device.open()
        assert peer.connect(device.id, clean=clean) is expected
        peer.disconnect()
    peer = device.open()
    assert peer.connect(device.id, clean=False) is False


@case("MQTT-3.1.2-24", "one that is silent for 1.5 times its keep-alive is disconnected")
def test_keep_alive(bench: Bench) -> None:
    device = bench.device()
    keep_alive_s = 1
    peer = device.open()
    peer.connect(device.id, keep_alive_s=keep_alive_s)
    began = time.monotonic()
    assert pings(peer)
    peer.wait_closed()
    assert time.monotonic() - began >= keep_alive_s
    assert pings(device.connect())


@case("MQTT-3.1.2-8, -10; MQTT-3.14.4-3", "a will is sent unless DISCONNECT came")
def test_will(bench: Bench) -> None:
    device, operator = bench.device(), bench.operator()
    will, end = device.topic("will"), device.topic("end")
    assert operator.subscribe(device.topic("#"), 1) == 1

    def connected(payload: bytes, qos: int) -> Peer:
        peer = device.open()
        flags = CLEAN | _WILL | _will_qos(qos)
        request = connect(device.id, flags, rest=field(will) + field(payload))
        assert refusal(peer, request) == _ACCEPTED
        return peer

    connected(b"lost", 1).drop()
    message = receive(operator)
    assert (message.topic, message.payload, message.qos) == (will, b"lost", 1)
    assert ends_connection(connected(b"malformed", 1), packet(SUBSCRIBE))
    assert receive(operator).payload == b"malformed"

    leaving = connected(b"left", 1)
    leaving.send(packet(DISCONNECT))
    leaving.wait_closed()
    device.connect().publish(end, b"end")
    assert payloads_until(operator, b"end") == []


@case("MQTT-3.1.4-2", "a client id that comes again ends the connection that has it")
def test_take_over(bench: Bench) -> None:
    device = bench.device()
    first = device.connect(clean=False)
    second = device.connect_again()
    first.wait_closed()
    assert pings(second)
    second.drop()

    other = bench.device()
    clean = other.connect()
    assert clean.subscribe(other.topic("#"), 1) == 1
    kept = other.open()
    assert kept.connect(other.id, clean=False) is False  # nothing of a clean session is handed on
    clean.wait_closed()
    kept.publish(other.topic("t"), b"not subscribed")
    assert delivered_to_itself(kept, other.topic("end")) == []


@case("MQTT-3.12.4-1", "PINGREQ is answered by PINGRESP")
def test_ping(bench: Bench) -> None:
    assert pings(bench.device().connect())


@case("MQTT-4.8.0-1", "what is no packet of a client's ends the connection")
def test_malformed(bench: Bench) -> None:
    device = bench.device()
    topic = device.topic("t")
    for malformed in (
        b"\x30\xff\xff\xff\xff\x01" + field(topic),  # a length of five bytes
        packet(0),
        packet(0xF0),
        packet(0x20, b"\0\0"),  # a CONNACK
        packet(0x30, b"\0\x09abc"),  # a topic that is longer than its packet
        packet(0x40, b"\0"),  # half a packet id
    ):
        assert ends_connection(device.connect(), malformed), malformed
    assert ends_connection(device.open(), publish(topic, b"first"))
    assert ends_connection(device.open(), packet(CONNECT | 1, connect(device.id)[2:]))
