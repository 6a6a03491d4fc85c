"""MQTT 3.1.1 on the wire: SUBSCRIBE and UNSUBSCRIBE, topics, packet ids and flags."""

from __future__ import annotations

from conformance.cases import Bench, case, ends_connection, payloads_until, receive
from support.packets import (
    PUBLISH,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    answer,
    field,
    packet,
    publish,
)

_ID = 7


@case("MQTT-3.8.4-1, -2, -5", "SUBACK has the packet id, and a code for each filter in order")
def test_codes_of_suback(bench: Bench) -> None:
    device = bench.device()
    filters = b"".join(
        field(device.topic(name)) + bytes([qos]) for name, qos in (("a", 2), ("b", 0), ("c/+", 1))
    )
    suback = device.connect().ask(answer(SUBSCRIBE, 0xABCD, filters), SUBACK)
    assert (suback.packet_id, suback.body[2:]) == (0xABCD, bytes([2, 0, 1]))


@case("MQTT-3.8.3-4; MQTT-3.3.1-4", "QoS 3, and what is reserved beside a QoS, end the connection")
def test_qos_3(bench: Bench) -> None:
    device = bench.device()
    topic = field(device.topic("t"))
    for qos in (3, 4, 0x80):
        request = answer(SUBSCRIBE, _ID, topic + bytes([qos]))
        assert ends_connection(device.connect(), request), qos
    assert ends_connection(device.connect(), packet(PUBLISH | 3 << 1, topic + b"\0\x07payload"))


@case("MQTT-3.8.3-3; MQTT-3.10.3-2", "SUBSCRIBE and UNSUBSCRIBE have a whole filter at least")
def test_without_a_filter(bench: Bench) -> None:
    device = bench.device()
    for kind in (SUBSCRIBE, UNSUBSCRIBE):
        for rest in (b"", b"\0", field(device.topic("t"))[:-1]):
            assert ends_connection(device.connect(), answer(kind, _ID, rest)), (kind, rest)
    assert ends_connection(device.connect(), answer(SUBSCRIBE, _ID, field(device.topic("t"))))


@case("MQTT-3.8.1-1; MQTT-3.10.1-1; MQTT-3.6.1-1", "flags that are reserved end the connection")
def test_reserved_bits(bench: Bench) -> None:
    device = bench.device()
    topic = field(device.topic("t"))
    for kind, rest in ((SUBSCRIBE, topic + b"\0"), (UNSUBSCRIBE, topic), (PUBREL, b"")):
        for flags in (0, 3, 0xA):
            malformed = answer(kind & 0xF0 | flags, _ID, rest)
            assert ends_connection(device.connect(), malformed), malformed


@case("MQTT-2.3.1-1", "packet id 0 ends the connection")
def test_packet_id_0(bench: Bench) -> None:
    device = bench.device()
    topic = device.topic("t")
    for malformed in (
        answer(SUBSCRIBE, 0, field(topic) + b"\0"),
        answer(UNSUBSCRIBE, 0, field(topic)),
        publish(topic, b"payload", 1, 0),
        publish(topic, b"payload", 2, 0),
    ):
        assert ends_connection(device.connect(), malformed), malformed


@case("MQTT-3.3.2-2; MQTT-4.7.3-1", "a PUBLISH to a wildcard, or to nothing, ends the connection")
def test_topic_of_publish(bench: Bench) -> None:
    device = bench.device()
    for topic in (device.topic("+"), device.topic("#"), device.topic("a+"), ""):
        for qos in (0, 1):
            malformed = publish(topic, b"payload", qos)
            assert ends_connection(device.connect(), malformed), malformed


@case("MQTT-1.5.3-1, -2; MQTT-4.7.1-2, -3", "a topic is UTF-8 without NUL, wildcards are levels")
def test_text_of_topics(bench: Bench) -> None:
    device = bench.device()
    wrong = [device.topic("a").encode() + bad for bad in (b"\0", b"\xff", b"\xed\xa0\x80", b"\xc3")]
    for text in wrong:
        for malformed in (
            publish(text, b"payload"),
            answer(SUBSCRIBE, _ID, field(text) + b"\0"),
            answer(UNSUBSCRIBE, _ID, field(text)),
        ):
            assert ends_connection(device.connect(), malformed), malformed
    for topic_filter in ("a+", "#/a", "a#"):
        request = answer(SUBSCRIBE, _ID, field(device.topic(topic_filter)) + b"\0")
        assert ends_connection(device.connect(), request), topic_filter


@case("MQTT-4.7.2-1", "a wildcard in the first level matches no topic that begins with $")
def test_dollar(bench: Bench) -> None:
    device, monitor = bench.device(), bench.monitor()
    peer = device.connect()
    for topic_filter in ("#", "+/#", "+/broker/version"):  # a broker may refuse them [MQTT-3.8.4-5]
        monitor.subscribe(topic_filter, 1)
    assert monitor.subscribe(device.topic("#"), 1) == 1
    peer.publish(device.topic("t"), b"end")
    while (message := receive(monitor)).topic != device.topic("t"):
        assert not message.topic.startswith("$")
    # further down it is a character as others
    assert peer.subscribe(device.topic("+"), 1) == 1
    peer.publish(device.topic("$x"), b"ordinary")
    assert receive(peer).topic == device.topic("$x")


@case("MQTT-3.3.5-1", "filters that overlap: a message comes with the greatest QoS among them")
def test_overlapping(bench: Bench) -> None:
    device = bench.device()
    peer = device.connect()
    for name, qos in (("#", 0), ("a/+", 2), ("a/b", 1)):
        assert peer.subscribe(device.topic(name), qos) == qos
    peer.publish(device.topic("a/b"), b"once", 2)
    # A broker may send it once more for each further filter, so the end has one filter and its QoS.
    assert peer.subscribe(device.topic("#"), 2) == 2
    peer.publish(device.topic("end"), b"end", 2)
    copies = []
    while (message := receive(peer)).payload != b"end":
        copies.append(message.qos)
    assert max(copies) == 2


@case(
    "MQTT-3.10.4-1, -2, -4 to -6",
    "UNSUBSCRIBE ends what has that very filter; it is answered",
)
def test_unsubscribe(bench: Bench) -> None:
    device = bench.device()
    peer = device.connect()
    for name in ("a", "+", "end/#"):
        assert peer.subscribe(device.topic(name), 1) == 1

    def unsubscribe(*names: str) -> None:
        filters = b"".join(field(device.topic(name)) for name in names)
        assert peer.ask(answer(UNSUBSCRIBE, _ID, filters), UNSUBACK).packet_id == _ID

    unsubscribe("never")
    unsubscribe("a", "end/+")
    peer.publish(device.topic("a"), b"still, by +")
    assert receive(peer).payload == b"still, by +"
    unsubscribe("+")
    peer.publish(device.topic("a"), b"no more")
    peer.publish(device.topic("end/x"), b"end")
    assert payloads_until(peer, b"end") == []
