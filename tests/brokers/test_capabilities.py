"""What a device can do with each broker, from each interpreter: one row of docs/brokers.md each,
judged by what is delivered.
"""

from __future__ import annotations

from pathlib import Path

from brokers.capabilities import OPERATOR, Stage, capability
from contract.remote import Remote
from securemqtt_tools.broker.rules import DENY, READ, WRITE, Rule
from support.brokers.doors import Door
from support.brokers.mqtt import Peer

CONNECT = "client.connect(patience_s)"


def topic(device_id: str, name: str) -> str:
    return f"devices/{device_id}/{name}"


def received(peer: Peer, wanted: str) -> bytes:
    """Return the payload of the next message on a topic."""
    while True:
        got, payload = peer.receive()
        if got == wanted:
            return payload


def refusal(device: Remote) -> str:
    """Have a device connect; return why it cannot, as the name of the error, "" if it can."""
    device.tell("client.connect(patience_s)")
    try:
        device.answer()
    except AssertionError as error:
        return str(error).split()[1]
    return ""


@capability("the five lines")
def test_five_lines(stage: Stage) -> None:
    me = stage.identity()
    device, operator = stage.device(me), stage.operator()
    operator.subscribe(topic(me, "#"))
    device.ask("subscribe('~/command/led', 1)")
    device.ask(CONNECT)
    device.ask("client.publish('~/temperature', 21.5)")
    assert received(operator, topic(me, "temperature")) == b"21.5"
    assert device.ask("until(granted)")
    operator.publish(topic(me, "command/led"), b"on")
    assert device.ask("until(lambda: messages)")
    assert device.ask("messages")[0][:2] == [topic(me, "command/led"), "on"]


def published(stage: Stage, qos: int) -> None:
    """Publish with this QoS, both ways, and see it arrive with it."""
    me = stage.identity()
    device, operator = stage.device(me), stage.operator()
    operator.subscribe(topic(me, "reading"), 2)
    device.ask("subscribe('~/command/x', 2)")
    device.ask(CONNECT)
    assert device.ask("until(granted)")
    device.ask(f"client.publish('~/reading', 'up', qos={qos})")
    message = operator.receive_unacknowledged()
    assert (message.payload, message.qos) == (b"up", qos)
    operator.publish(topic(me, "command/x"), b"down", qos)
    assert device.ask("until(lambda: messages)")
    assert device.ask("messages") == [[topic(me, "command/x"), "down", qos, False]]


@capability("QoS 0")
def test_qos_0(stage: Stage) -> None:
    published(stage, 0)


@capability("QoS 1")
def test_qos_1(stage: Stage) -> None:
    published(stage, 1)


@capability("QoS 2")
def test_qos_2(stage: Stage) -> None:
    published(stage, 2)


@capability("retained")
def test_retained(stage: Stage) -> None:
    me = stage.identity()
    device = stage.device(me)
    device.ask(CONNECT)
    device.ask("client.publish('~/place', 'roof', retain=True)")
    assert device.ask("client.flush(patience_s)")
    operator = stage.operator()
    operator.subscribe(topic(me, "place"))
    assert received(operator, topic(me, "place")) == b"roof"


@capability("will")
def test_will(stage: Stage) -> None:
    me = stage.identity()
    operator, device = stage.operator(), stage.device(me, will=("~/last", "gone"))
    operator.subscribe(topic(me, "last"))
    device.ask(CONNECT)
    device.process.kill()
    assert received(operator, topic(me, "last")) == b"gone"


@capability("kept session")
def test_kept_session(stage: Stage) -> None:
    me = stage.identity()
    device, operator = stage.device(me), stage.operator()
    device.ask("subscribe('~/command/led', 1)")
    device.ask(CONNECT)
    assert device.ask("until(granted)")
    device.process.kill()
    device.process.wait()
    for number in range(20):
        operator.publish(topic(me, "command/led"), b"%d" % number)
    again = stage.device(me)
    again.ask("subscribe('~/command/led', 1)")
    again.ask(CONNECT)
    assert again.ask("until(lambda: len(messages) == 20)")
    assert [one[1] for one in again.ask("messages")] == [str(one) for one in range(20)]


@capability("revoked: new connections")
def test_revocation_of_who_is_away(stage: Stage) -> None:
    me = stage.identity()
    stage.door.revoke(me)
    device = stage.device(me)
    # By TLS, whose alert differs, or by CONNACK.
    assert refusal(device) in (
        "ClientCertificateRevoked",
        "ClientCertificateRefused",
        "NotAuthorised",
    )


@capability("revoked: the live one, no other")
def test_revocation_of_who_is_connected(stage: Stage) -> None:
    me, other = stage.identity(), stage.identity()
    device, neighbour = stage.device(me), stage.device(other)
    for one in (device, neighbour):
        one.ask(CONNECT)
    stage.door.revoke(me)
    assert device.ask("link_until(lambda: not client.connected)")
    assert neighbour.ask("client.connected")
    assert neighbour.ask("client.stats['connects']") == 1
    neighbour.ask("client.publish('~/x', 'here')")
    assert neighbour.ask("client.flush(patience_s)")


@capability("rules by group")
def test_rules_by_group(stage: Stage) -> None:
    me, other = stage.identity(), stage.identity()
    device, outsider = stage.device(me), stage.device(other)
    for one in (device, outsider):
        one.ask("subscribe('weather/#', 1)")
    stage.rule(
        {"greenhouse": [me]},
        Rule("greenhouse", True, READ, "weather/#"),
        Rule(OPERATOR, False, WRITE, "weather/#"),
    )
    for one in (device, outsider):
        one.ask(CONNECT)
    assert device.ask("until(granted)")
    operator = stage.operator()
    for payload in (b"1", b"2"):
        operator.publish("weather/rain", payload)
    assert device.ask("until(lambda: len(messages) == 2)")
    assert [one[1] for one in device.ask("messages")] == ["1", "2"]
    assert outsider.ask("messages") == []


@capability("a part of a filter denied")
def test_denial_of_a_part(stage: Stage) -> None:
    me = stage.identity()
    device = stage.device(me)
    device.ask("subscribe('weather/#', 1)")
    stage.rule(
        {"greenhouse": [me]},
        Rule("greenhouse", True, READ, "weather/#"),
        Rule("greenhouse", True, DENY, "weather/raw"),
        Rule(OPERATOR, False, WRITE, "weather/#"),
    )
    device.ask(CONNECT)
    assert device.ask("until(granted)")
    operator = stage.operator()
    operator.publish("weather/raw", b"1")
    operator.publish("weather/rain", b"2")
    assert device.ask("until(lambda: messages)")
    assert [one[1] for one in device.ask("messages")] == ["2"]


@capability("takeover by the same id")
def test_takeover(stage: Stage) -> None:
    me = stage.identity()
    first, operator = stage.device(me), stage.operator()
    operator.subscribe(topic(me, "x"))
    first.ask(CONNECT)
    second = stage.device(me)
    second.ask(CONNECT)
    assert first.ask("link_until(lambda: not client.connected)")
    first.process.kill()
    second.ask("client.publish('~/x', 'second')")
    assert received(operator, topic(me, "x")) == b"second"


@capability("WebSockets")
def test_websockets(
    websockets_door: Door, interpreter: str, tmp_path: Path, compiled: Path
) -> None:
    websockets_door.websockets = True
    with Stage(websockets_door, interpreter, tmp_path, compiled) as stage:
        me = stage.identity()
        device, operator = stage.device(me, transport="wss"), stage.operator()
        operator.subscribe(topic(me, "x"))
        device.ask(CONNECT)
        device.ask("client.publish('~/x', 'over wss')")
        assert received(operator, topic(me, "x")) == b"over wss"


@capability("address: only from its network")
def test_address(stage: Stage) -> None:
    me, other = stage.identity(), stage.identity()
    stage.rule({}, networks={me: "192.0.2.0/24", other: "127.0.0.0/8"})
    stage.device(other).ask(CONNECT)
    device = stage.device(me)
    assert refusal(device) == "NotAuthorised"
