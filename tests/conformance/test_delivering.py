"""MQTT 3.1.1 on the wire: QoS 0, 1 and 2, what waits for a session, and what is retained."""

from __future__ import annotations

from conformance.cases import Bench, Device, case, payloads_until, receive
from support.brokers.mqtt import Peer
from support.packets import (
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Packet,
    answer,
    packet,
    publish,
)

_ID = 7


@case("MQTT-4.3.1-1; MQTT-4.3.2-1, -2", "QoS 0 has no packet id and no answer, QoS 1 has both")
def test_qos_0_and_1(bench: Bench) -> None:
    device = bench.device()
    peer = device.connect()
    topic = device.topic("t")
    assert peer.subscribe(topic, 1) == 1
    peer.send(publish(topic, b"zero", 0))
    assert peer.receive_packet() == Packet(0x30, publish(topic, b"zero", 0)[2:])
    assert peer.ask(publish(topic, b"one", 1, _ID), PUBACK).packet_id == _ID
    message = receive(peer)
    assert (message.qos, message.dup, message.payload) == (1, False, b"one")
    assert message.packet_id != 0


@case("MQTT-4.3.3-1, -2", "QoS 2 is PUBLISH, PUBREC, PUBREL, PUBCOMP with one packet id")
def test_qos_2(bench: Bench) -> None:
    device = bench.device()
    peer = device.connect()
    topic = device.topic("t")
    assert peer.subscribe(topic, 2) == 2
    for payload in (b"two", b"the same id again"):
        assert peer.ask(publish(topic, payload, 2, _ID), PUBREC).packet_id == _ID
        assert peer.ask(answer(PUBREL, _ID), PUBCOMP).packet_id == _ID
        message = receive(peer)
        assert (message.qos, message.dup, message.payload) == (2, False, payload)
    assert peer.ask(answer(PUBREL, _ID), PUBCOMP).packet_id == _ID  # one that is sent again


@case("MQTT-4.3.3-2", "a PUBLISH of QoS 2 that comes again before PUBREL is delivered once")
def test_qos_2_again(bench: Bench) -> None:
    device = bench.device()
    peer = device.connect()
    assert peer.subscribe(device.topic("#"), 1) == 1
    for dup in (False, True):
        data = publish(device.topic("t"), b"once", 2, _ID, dup=dup)
        assert peer.ask(data, PUBREC).packet_id == _ID
    assert peer.ask(answer(PUBREL, _ID), PUBCOMP).packet_id == _ID
    peer.publish(device.topic("t"), b"end")
    assert payloads_until(peer, b"end") == [b"once"]


@case("MQTT-4.3.3-2; MQTT-3.1.2-4", "a PUBLISH of QoS 2 that comes again after a reconnect, too")
def test_qos_2_to_the_broker_over_a_reconnect(bench: Bench) -> None:
    device, operator = bench.device(), bench.operator()
    assert operator.subscribe(device.topic("#"), 1) == 1
    topic = device.topic("t")
    peer = device.connect(clean=False)
    assert peer.ask(publish(topic, b"once", 2, _ID), PUBREC).packet_id == _ID
    peer.drop()
    peer = device.connect_again()
    assert peer.ask(publish(topic, b"once", 2, _ID, dup=True), PUBREC).packet_id == _ID
    assert peer.ask(answer(PUBREL, _ID), PUBCOMP).packet_id == _ID
    peer.publish(topic, b"end")
    assert payloads_until(operator, b"end") == [b"once"]


@case("MQTT-4.4.0-1; MQTT-4.3.3-1", "after a reconnect what had PUBREC is released, not sent again")
def test_qos_2_to_the_client_over_a_reconnect(bench: Bench) -> None:
    device = bench.device()
    topic = device.topic("t")
    peer = device.connect(clean=False)
    assert peer.subscribe(topic, 2) == 2
    peer.publish(topic, b"once", 2)
    message = peer.receive_unacknowledged()
    assert message.qos == 2
    assert peer.ask(answer(PUBREC, message.packet_id), PUBREL).packet_id == message.packet_id
    peer.drop()
    peer = device.connect_again()
    assert peer.receive_packet() == Packet(PUBREL, message.packet_id.to_bytes(2, "big"))
    peer.send(answer(PUBCOMP, message.packet_id))
    peer.publish(topic, b"end", 2)
    assert payloads_until(peer, b"end") == []


@case("MQTT-3.8.4-3, -6", "the QoS is the lower one of PUBLISH and the newest subscription")
def test_lower_qos(bench: Bench) -> None:
    device = bench.device()
    peer = device.connect()
    topic = device.topic("t")
    for subscribed in (2, 0, 1):
        assert peer.subscribe(topic, subscribed) == subscribed
        for published in (0, 1, 2):
            peer.publish(topic, b"%d" % published, published)
            message = receive(peer)
            assert message.payload == b"%d" % published
            assert message.qos == min(subscribed, published), (subscribed, published)


@case(
    "MQTT-3.1.2-5; MQTT-3.3.1-1; MQTT-4.6.0-6",
    "a kept session gets in order what has waited, and with DUP what it did not acknowledge",
)
def test_kept_session(bench: Bench) -> None:
    device, operator = bench.device(), bench.operator()
    peer = device.connect(clean=False)
    for qos in (1, 2):
        assert peer.subscribe(device.topic(f"command/{qos}"), qos) == qos
    sent = [(1, b"first"), (2, b"second")]
    for qos, payload in sent:
        operator.publish(device.topic(f"command/{qos}"), payload, qos)
    before = [peer.receive_unacknowledged() for _ in sent]
    peer.send(packet(DISCONNECT))
    peer.wait_closed()
    for qos, payload in ((1, b"third"), (2, b"fourth"), (1, b"fifth")):
        operator.publish(device.topic(f"command/{qos}"), payload, qos)
        sent.append((qos, payload))

    peer = device.connect_again()
    after = [receive(peer) for _ in sent]
    assert [(one.qos, one.payload) for one in after] == sent
    assert [one.dup for one in after] == [True, True, False, False, False]
    assert [one.packet_id for one in after[:2]] == [one.packet_id for one in before]


@case(
    "MQTT-3.3.1-5, -6, -8 to -10",
    "retained is the last message, until an empty one; RETAIN is set for new subscriptions alone",
)
def test_retained(bench: Bench) -> None:
    device, operator = bench.device(), bench.operator()
    peer = device.connect()
    topic = device.topic("state")
    assert operator.subscribe(topic, 1) == 1
    for payload in (b"old", b"new"):
        peer.publish(topic, payload, retain=True)
        message = receive(operator)
        assert (message.payload, message.first & 1) == (payload, 0)
    peer.publish(topic, b"passing")
    assert receive(operator).payload == b"passing"

    assert subscribed(device, peer) == [(topic, b"new", 1)]
    assert subscribed(device, peer) == [(topic, b"new", 1)]  # again, since it is a new subscription
    peer.publish(topic, b"", retain=True)
    message = receive(operator)
    assert (message.payload, message.first & 1) == (b"", 0)
    peer.publish(topic, b"passing")
    assert receive(peer).payload == b""
    assert receive(peer).payload == b"passing"
    assert subscribed(device, peer) == []


def subscribed(device: Device, peer: Peer) -> list[tuple[str, bytes, int]]:
    """Subscribe; return topic, payload and RETAIN of what comes before the next message."""
    assert peer.subscribe(device.topic("#"), 1) == 1
    peer.publish(device.topic("end"), b"end")
    messages = []
    while (message := receive(peer)).payload != b"end":
        messages.append((message.topic, message.payload, message.first & 1))
    return messages
