"""The embedded broker where amqtt alone would lose messages, never let go of a dead client, or grow
without bound.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.session import Session

from securemqtt_tools.broker import BrokerConfig, Limits
from securemqtt_tools.broker.embedded.admission import AdmissionReader
from securemqtt_tools.broker.embedded.inbound import InboundHandler
from securemqtt_tools.broker.embedded.outbound import Backlog
from securemqtt_tools.broker.embedded.ruled import RuledBroker
from securemqtt_tools.broker.embedded.server import Lines
from securemqtt_tools.broker.embedded.soundness import MOST_FILTERS, check_packet
from securemqtt_tools.pki import Authority
from support.brokers.doors import Door, open_door
from support.brokers.mqtt import Peer, Refused
from support.network.net import wait_until
from support.packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBSCRIBE,
    answer,
    field,
    packet,
    publish,
)
from support.speed import seconds

WINDOW = Limits().in_flight


@pytest.fixture(scope="module")
def door(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(authority, tmp_path_factory.mktemp("door"), "amqtt") as opened:
        yield opened


def test_what_was_not_acknowledged_comes_again(door: Door) -> None:
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    count = 50  # more than a window
    with door.enter("controller") as controller:
        with door.peer(credentials) as device:
            device.connect(device_id, clean=False)
            device.subscribe(f"devices/{device_id}/#")
            for number in range(count):
                controller.publish(f"devices/{device_id}/command/n", b"%d" % number)
            sent = [device.receive_unacknowledged() for _ in range(WINDOW)]
            device.drop()
        controller.publish(f"devices/{device_id}/command/n", b"%d" % count)
        with door.peer(credentials) as device:
            assert device.connect(device_id, clean=False) is True
            again = [device.receive_unacknowledged() for _ in range(WINDOW)]
            assert [(one.packet_id, one.payload) for one in again] == [
                (one.packet_id, one.payload) for one in sent
            ]  # in their order, with their ids: MQTT-4.4.0-1, MQTT-4.6.0-1
            assert all(one.dup for one in again)
            assert not any(one.dup for one in sent)
            for one in again:
                device.acknowledge(one)
            rest = [int(device.receive()[1]) for _ in range(count + 1 - WINDOW)]
            assert rest == list(range(WINDOW, count + 1))
            assert device.drain() == []


def test_a_message_that_was_received_is_released_on_the_next_connection(door: Door) -> None:
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    with door.enter("controller") as controller:
        with door.peer(credentials) as device:
            device.connect(device_id, clean=False)
            device.subscribe(f"devices/{device_id}/#", 2)
            controller.publish(f"devices/{device_id}/command/n", b"once", 2)
            first = device.receive_unacknowledged()
            assert device.ask(answer(PUBREC, first.packet_id), PUBREL).packet_id == first.packet_id
        with door.peer(credentials) as device:
            device.connect(device_id, clean=False)
            assert device.wait_for(PUBREL).packet_id == first.packet_id
            device.send(answer(PUBCOMP, first.packet_id))
            assert device.drain() == []


def test_the_lower_quality_of_service_holds(door: Door) -> None:
    device_id = door.new_id()
    with door.enter("controller") as controller, door.peer(door.credentials(device_id)) as device:
        device.connect(device_id)
        assert device.subscribe(f"devices/{device_id}/command/#", 1) == 1
        for qos in (0, 1, 2):
            controller.publish(f"devices/{device_id}/command/n", b"1", qos)
            got = device.receive_unacknowledged()
            assert got.qos == min(qos, 1)
            device.acknowledge(got)


def test_a_client_that_never_acknowledges_holds_up_nobody(door: Door) -> None:
    idle, busy = door.new_id(), door.new_id()
    with (
        door.enter("controller") as controller,
        door.peer(door.credentials(idle)) as stuck,
        door.peer(door.credentials(busy)) as device,
    ):
        for peer, device_id in ((stuck, idle), (device, busy)):
            peer.connect(device_id)
            peer.subscribe(f"devices/{device_id}/#")
        for _ in range(2 * WINDOW):
            controller.publish(f"devices/{idle}/command/n", b"1")
        for number in range(2 * WINDOW):
            controller.publish(f"devices/{busy}/command/n", b"%d" % number)
        assert [int(device.receive()[1]) for _ in range(2 * WINDOW)] == list(range(2 * WINDOW))
        controller.publish(f"devices/{idle}/command/n", b"0", 0)
        while stuck.receive_unacknowledged().qos:
            pass


def test_what_was_acknowledged_is_handed_out_though_its_sender_left_at_once(door: Door) -> None:
    device_id, count = door.new_id(), 50
    with door.enter("controller") as controller:
        controller.subscribe(f"devices/{device_id}/#")
        with door.peer(door.credentials(device_id)) as device:
            device.connect(device_id)
            for number in range(count):
                device.publish(f"devices/{device_id}/n", b"%d" % number)
            device.disconnect()
        assert [int(controller.receive()[1]) for _ in range(count)] == list(range(count))


def test_a_clean_session_ends_with_its_connection(door: Door) -> None:
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    with door.peer(credentials) as device:
        device.connect(device_id)
        device.subscribe(f"devices/{device_id}/#")
        device.disconnect()
    with door.peer(credentials) as device:
        assert device.connect(device_id, clean=False) is False


def test_a_retained_message_that_was_taken_back_is_gone(door: Door) -> None:
    device_id = door.new_id()
    with door.enter("controller") as controller, door.peer(door.credentials(device_id)) as device:
        for payload in (b"1", b""):
            controller.publish(f"devices/{device_id}/command/n", payload, retain=True)
        device.connect(device_id)
        device.subscribe(f"devices/{device_id}/#")
        assert device.drain() == []


def test_a_qos_2_message_is_completed_however_often_it_is_asked_for(door: Door) -> None:
    device_id = door.new_id()
    credentials, topic = door.credentials(device_id), f"devices/{device_id}/n"
    with door.enter("controller") as controller:
        controller.subscribe(topic)
        for released in (False, True):
            with door.peer(credentials) as device:
                device.connect(device_id, clean=False)
                for dup in (False, True):
                    got = device.ask(publish(topic, b"once", 2, 5, dup=dup), PUBREC)
                    assert got.packet_id == 5
                if released:
                    device.ask(answer(PUBREL, 5), PUBCOMP)
        with door.peer(credentials) as device:
            device.connect(device_id, clean=False)
            device.ask(answer(PUBREL, 5), PUBCOMP)
            device.publish(topic, b"next", 2)
        assert [controller.receive()[1] for _ in range(2)] == [b"once", b"next"]
        assert controller.drain() == []


def test_a_connection_that_ends_right_after_it_began_locks_nobody_out(door: Door) -> None:
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    for _ in range(10):
        device = door.peer(credentials)
        device.connect(device_id, clean=False)
        device.send(publish(f"devices/{device_id}/n", b"x", 2, 5))
        device.drop()
    with door.peer(credentials) as device:
        device.connect(device_id)


@pytest.mark.parametrize("name", ["+", "a/#", "nul\0", "bell\7"])
def test_what_is_no_topic_reaches_nobody_as_a_will_or_a_message(door: Door, name: str) -> None:
    device_id = door.new_id()
    credentials, topic = door.credentials(device_id), f"devices/{device_id}/{name}"
    with door.enter("controller") as controller:
        controller.subscribe(f"devices/{device_id}/#")
        with door.peer(credentials) as device, pytest.raises(Refused):
            device.connect(device_id, will=(topic, b"will"))
        with door.peer(credentials) as device:
            device.connect(device_id)
            device.send(publish(topic, b"x", 1, 5))
            device.wait_closed()
        controller.publish(f"devices/{device_id}/command/last", b"last")
        assert controller.receive() == (f"devices/{device_id}/command/last", b"last")


def test_a_subscription_made_again_has_its_new_quality_of_service(door: Door) -> None:
    device_id = door.new_id()
    topic = f"devices/{device_id}/command/n"
    with door.enter("controller") as controller, door.peer(door.credentials(device_id)) as device:
        device.connect(device_id)
        for qos in (0, 1, 0):
            assert device.subscribe(topic, qos) == qos
            controller.publish(topic, b"1")
            got = device.receive_unacknowledged()
            assert got.qos == qos
            device.acknowledge(got)


def test_retained_messages_come_with_a_subscription_and_not_with_a_connection(door: Door) -> None:
    device_id = door.new_id()
    credentials, topic = door.credentials(device_id), f"devices/{device_id}/command/n"
    with door.enter("controller") as controller:
        controller.publish(topic, b"kept", retain=True)
    with door.peer(credentials) as device:
        device.connect(device_id, clean=False)
        device.subscribe(topic)
        assert device.receive() == (topic, b"kept")
        device.disconnect()
    with door.peer(credentials) as device:
        assert device.connect(device_id, clean=False) is True
        assert device.drain() == []
        device.subscribe(topic)
        assert device.receive() == (topic, b"kept")


def test_the_will_of_a_kept_session_is_that_of_its_last_connection(door: Door) -> None:
    device_id = door.new_id()
    credentials, topic = door.credentials(device_id), f"devices/{device_id}/status"
    with door.enter("controller") as controller:
        controller.subscribe(topic)
        for retain in (False, True):
            with door.peer(credentials) as device:
                device.connect(device_id, clean=False, will=(topic, b"off"), will_retain=retain)
            assert controller.receive() == (topic, b"off")
    with door.enter("controller") as controller:
        controller.subscribe(topic)
        assert controller.receive() == (topic, b"off")


def test_the_will_of_a_client_that_came_by_websockets_is_sent(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("door")
    with open_door(authority, directory, "amqtt", websockets=True) as door:
        device_id = door.new_id()
        topic = f"devices/{device_id}/status"
        with door.enter("controller") as controller:
            controller.subscribe(topic)
            for _ in range(5):
                with door.peer(door.credentials(device_id)) as device:
                    device.connect(device_id, will=(topic, b"off"))
                    device.send(answer(SUBSCRIBE, 1, field(topic) + b"\1"))
                assert controller.receive() == (topic, b"off")
        assert "Traceback" not in door.broker.log.read_text()


def test_messages_for_an_absent_client_wait_for_it_in_order(door: Door) -> None:
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    with door.peer(credentials) as device:
        device.connect(device_id, clean=False)
        device.subscribe(f"devices/{device_id}/#")
        device.disconnect()
    with door.enter("controller") as controller:
        for number in range(30):
            controller.publish(f"devices/{device_id}/command/n", b"%d" % number)
    with door.peer(credentials) as device:
        device.connect(device_id, clean=False)
        assert [int(device.receive()[1]) for _ in range(30)] == list(range(30))


def test_silent_client_is_put_out_and_its_will_is_sent(door: Door) -> None:
    device_id = door.new_id()
    with door.enter("controller") as controller, door.peer(door.credentials(device_id)) as device:
        controller.subscribe(f"devices/{device_id}/#")
        device.connect(device_id, keep_alive_s=1, will=(f"devices/{device_id}/status", b"offline"))
        device.wait_closed()
        assert controller.receive() == (f"devices/{device_id}/status", b"offline")


@pytest.mark.parametrize("keep_alive_s", [3601, 65535, 0])
def test_a_keep_alive_beyond_the_limit_is_refused(door: Door, keep_alive_s: int) -> None:
    device_id = door.new_id()
    asked = packet(
        CONNECT, field("MQTT") + struct.pack("!BBH", 4, 2, keep_alive_s) + field(device_id)
    )
    with door.peer(door.credentials(device_id)) as device:
        device.tls.sendall(asked)
        assert device.tls.recv(100) == b"\x20\x02\x00\x02"  # as Mosquitto from 2.0.12 on
        device.wait_closed()
    with door.peer(door.credentials(device_id)) as device:
        device.connect(device_id, keep_alive_s=door.broker.config.limits.keep_alive_s)


def test_it_ends_without_a_word_of_who_has_said_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    with open_door(authority, tmp_path, "amqtt") as own, own.enter(own.new_id()):
        silent = own.peer(own.credentials(own.new_id()))
        silent.tls.sendall(b"\x10")
        with own.enter(own.new_id()) as later:  # so the silent one has been taken, too
            later.drain()
        own.broker.stop()
        silent.drop()
        log = own.broker.log.read_text()
    assert "Traceback" not in log
    assert "CancelledError" not in log


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"\x10\xff\xff\xff\x7f", id="256 MB announced"),
        pytest.param(b"\x10\xff\xff\xff\xff\xff", id="length without end"),
        pytest.param(b"\x30\x05\x00\x01a12", id="PUBLISH first"),
        pytest.param(b"\x10\x00", id="empty CONNECT"),
        pytest.param(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\xff", id="client id cut off"),
        pytest.param(b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", id="MQTT 3.1"),
        pytest.param(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00", id="MQTT 5"),
        pytest.param(bytes(range(256)), id="noise"),
    ],
)
def test_unsound_beginning_is_refused(door: Door, first: bytes) -> None:
    with door.peer(door.credentials(door.new_id())) as peer:
        peer.tls.sendall(first)
        peer.wait_closed()
    with door.enter(door.new_id()):
        pass  # and the broker is in good health


def test_the_log_has_a_line_for_each_record_whatever_clients_choose() -> None:
    try:
        raise ValueError("gone\x1b[2J\r\n2026 ERROR: forged")
    except ValueError:
        info = sys.exc_info()
    record = logging.makeLogRecord(
        {"msg": "dropped, first on %s", "args": ("a\u202e\nb",), "exc_info": info}
    )
    first, *where, last = Lines("%(levelname)s: %(message)s").format(record).split("\n")
    assert first == r"Level None: dropped, first on a\u202e\x0ab"
    assert last == r"ValueError: gone\x1b[2J\x0d\x0a2026 ERROR: forged"
    assert where[0].startswith("Traceback") and len(where) == 3


def test_packet_that_is_too_large(door: Door) -> None:
    device_id = door.new_id()
    with door.enter(device_id) as peer:
        peer.tls.sendall(b"\x32" + b"\xff\xff\xff\x7f" + struct.pack("!H1sH", 1, b"t", 1))
        peer.wait_closed()


def test_subscription_that_is_not_allowed_is_refused(door: Door) -> None:
    with door.enter(door.new_id()) as peer:
        assert peer.subscribe("devices/#") == 0x80


def test_nobody_in_after_the_connections_are_used_up(authority: Authority, door: Door) -> None:
    limits = Limits(connections=2)
    before = door.broker.config
    try:
        before.changed(limits=limits)
        door.broker.reload()
        with door.enter(door.new_id()) as one, door.enter(door.new_id()) as two:
            with pytest.raises(Refused):
                door.enter(door.new_id())
            one.drain()
            two.drain()
        assert wait_until(lambda: _enters(door))
    finally:
        before.save()
        door.broker.reload()


@pytest.fixture
def little_retained(door: Door) -> Iterator[None]:
    """Let each client have 3,000 bytes retained."""
    before = door.broker.config
    try:
        before.changed(limits=Limits(retained_bytes=3000))
        door.broker.reload()
        yield
    finally:
        before.save()
        door.broker.reload()


@pytest.mark.usefixtures("little_retained")
def test_what_one_client_has_retained_is_bounded(door: Door) -> None:
    device_id = door.new_id()
    prefix = f"devices/{device_id}"
    with door.enter(device_id) as peer:
        for number in range(4):
            peer.publish(f"{prefix}/{number}", bytes(900), retain=True)
        peer.publish(f"{prefix}/0", b"", retain=True)
        peer.publish(f"{prefix}/4", bytes(900), retain=True)  # in the place of the first
        peer.subscribe(f"{prefix}/#")
        kept = sorted(topic for topic, _ in peer.drain())
        assert kept == [f"{prefix}/{number}" for number in (1, 2, 4)]
    assert "has too much retained" in door.broker.log.read_text()


@pytest.mark.usefixtures("little_retained")
def test_what_is_too_large_to_be_retained_leaves_what_was(door: Door) -> None:
    device_id = door.new_id()
    topic = f"devices/{device_id}/status"
    with door.enter(device_id) as peer:
        for payload in (b"before", bytes(4000)):
            peer.publish(topic, payload, retain=True)
        peer.subscribe(topic)
        assert peer.drain() == [(topic, b"before")]


@pytest.mark.usefixtures("little_retained")
def test_what_another_has_put_in_its_place_is_no_longer_the_clients(door: Door) -> None:
    device_id = door.new_id()
    topic = f"devices/{device_id}/command/n"
    with door.enter("controller") as controller, door.enter(device_id) as device:
        for _ in range(3):
            device.publish(topic, bytes(2500), retain=True)
            controller.publish(topic, b"1", retain=True)
        controller.publish(topic, b"", retain=True)
        device.publish(topic, b"2", retain=True)
        device.publish(topic + "2", bytes(2500), retain=True)
        device.subscribe(f"devices/{device_id}/#")
        assert sorted(device.drain()) == [(topic, b"2"), (topic + "2", bytes(2500))]


@pytest.mark.usefixtures("little_retained")
def test_what_is_retained_is_counted_in_bytes(door: Door) -> None:
    device_id = door.new_id()
    topics = [f"devices/{device_id}/{number}{chr(0x20AC) * 600}" for number in range(2)]
    with door.enter(device_id) as peer:
        for topic in topics:
            peer.publish(topic, b"1", retain=True)
        peer.subscribe(f"devices/{device_id}/#")
        assert peer.drain() == [(topics[0], b"1")]


@pytest.mark.usefixtures("little_retained")
def test_retained_wills_count_too(door: Door) -> None:
    device_id = door.new_id()
    credentials = door.credentials(device_id)
    topics = [f"devices/{device_id}/{number}" for number in range(4)]
    with door.enter("controller") as controller:
        controller.subscribe(f"devices/{device_id}/#")
        for topic in topics:
            with door.peer(credentials) as device:
                device.connect(device_id, will=(topic, bytes(900)))
            assert controller.receive() == (topic, bytes(900))
    with door.enter("controller") as controller:
        controller.subscribe(f"devices/{device_id}/#")
        assert sorted(topic for topic, _ in controller.drain()) == topics[:3]


def test_to_retain_takes_no_longer_for_what_is_retained_already(
    authority: Authority, tmp_path: Path
) -> None:
    config = BrokerConfig.create(tmp_path / "broker", authority, names=["localhost"])
    session = Session()
    session.client_id = "d"

    async def measure() -> tuple[float, float]:
        broker = RuledBroker(config)
        spent = []
        for batch in range(12):
            began_s = time.process_time()
            for number in range(1000):
                topic = f"devices/d/{batch}/{number}"
                assert broker.take(session, PublishPacket.build(topic, b"1", None, False, 0, True))
            spent.append(time.process_time() - began_s)
        return min(spent[:3]), min(spent[-3:])

    early_s, late_s = asyncio.run(measure())
    assert late_s < 4 * early_s


def _enters(door: Door) -> bool:
    try:
        peer: Peer = door.enter(door.new_id())
    except Refused:
        return False
    peer.disconnect()
    return True


def reader_of(*chunks: bytes, longest: int = 1000) -> AdmissionReader:
    """Make a reader of a connection that brings these chunks and ends; it wants a running loop."""
    rest = iter(chunks)

    async def receive() -> bytes:
        return next(rest, b"")

    return AdmissionReader(receive, longest)


def test_packet_that_is_too_large_is_refused_though_it_came_in_one_piece() -> None:
    async def read() -> tuple[int, int]:
        fits, too_large = publish("t", bytes(97)), publish("t", bytes(98))
        reader = reader_of(fits + too_large + fits, longest=len(fits))
        return len(await reader.read(len(fits))), len(await reader.read(1))

    assert asyncio.run(read()) == (2 + 3 + 97, 0)


def test_what_is_sound_is_read_up_to_what_is_not_however_it_came_in_pieces() -> None:
    topic = field("devices/d/t")
    sound = [
        publish("devices/d/t", bytes(200), 1, 5),
        answer(PUBREL, 5),
        answer(SUBSCRIBE, 5, topic + b"\2" + topic + b"\0"),
        answer(UNSUBSCRIBE, 5, topic + topic),
        packet(PINGREQ),
        packet(DISCONNECT),
    ]

    async def read(data: bytes, size: int) -> bytes:
        reader = reader_of(*(data[at : at + size] for at in range(0, len(data), size)))
        got = b""
        while one := await reader.read(1):
            got += one
        return got

    whole = b"".join(sound)
    for size in (1, 3, len(whole)):
        assert asyncio.run(read(whole + packet(PINGREQ), size)) == whole + packet(PINGREQ)
        for wrong in (
            packet(PINGREQ | 1),
            packet(PINGREQ, b"x"),
            packet(DISCONNECT | 1),
            answer(PUBREL, 5, b"x"),
            publish("devices/d/t", b"", 0, dup=True),
            answer(UNSUBSCRIBE, 5, topic + b"\0"),
        ):
            assert asyncio.run(read(whole + wrong + whole, size)) == whole, (size, wrong)


class CountedBytes(bytes):
    """Bytes that count how many are copied out of them, and out of what was."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, int):
            return part
        CountedBytes.copied += len(part)
        return CountedBytes(part)


@pytest.mark.parametrize("kind", [SUBSCRIBE, UNSUBSCRIBE])
def test_each_byte_of_many_filters_is_looked_at_once(kind: int) -> None:
    one = field("t") + (b"\1" if kind == SUBSCRIBE else b"")
    body = CountedBytes(b"\0\1" + 1000 * one)
    CountedBytes.copied = 0
    check_packet(kind, body)
    assert len(body) == CountedBytes.copied


def test_who_asks_for_very_much_at_once_holds_up_nobody(door: Door) -> None:
    """A thousand filters, each against all that is retained; what has more is no packet."""
    device_id, other = door.new_id(), door.new_id()
    filters = [f"devices/{device_id}/{number}/+" for number in range(MOST_FILTERS)]
    asked = b"".join(field(one) + b"\0" for one in filters)
    with door.enter(device_id) as device, door.enter(other) as peer:
        for number in range(300):
            device.publish(f"devices/{device_id}/{number}/t", b"kept", 0, retain=True)
        device.drain()
        began_s = time.monotonic()
        device.send(answer(SUBSCRIBE, 1, asked))
        longest_s = 0.0
        subscribed = False
        while not subscribed:
            asked_s = time.monotonic()
            peer.ask(packet(PINGREQ), PINGRESP)
            longest_s = max(longest_s, time.monotonic() - asked_s)
            subscribed = f"devices/{device_id}/299/t" in {name for name, _ in device.drain()}
        assert longest_s < (time.monotonic() - began_s) / 4
        for number in range(300):
            device.publish(f"devices/{device_id}/{number}/t", b"", 0, retain=True)
        device.send(answer(SUBSCRIBE, 2, asked + field("t") + b"\0"))
        device.wait_closed()
    assert f"it has more than {MOST_FILTERS} filters" in door.broker.log.read_text()


def test_packets_are_served_in_their_order_though_no_answer_is_read(door: Door) -> None:
    device_id = door.new_id()
    topic, command = f"devices/{device_id}/t", f"devices/{device_id}/command/n"
    other = f"devices/{device_id}/other"
    subscribe = answer(SUBSCRIBE, 1, field(topic) + b"\1")
    unsubscribe = answer(UNSUBSCRIBE, 2, field(topic))
    with door.enter("controller") as controller, door.enter(device_id) as device:
        device.tls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 500_000)
        device.subscribe(command, 0)
        for _ in range(10):
            controller.publish(command, bytes(900_000))  # more than the sockets hold
        device.send(unsubscribe)
        device.send(publish(other, b"kept", 0, retain=True))
        device.send(
            answer(SUBSCRIBE, 3, field(other) + b"\1") + answer(UNSUBSCRIBE, 4, field(other))
        )
        first, last = publish(topic, b"first", 0), publish(topic, b"last", 0)
        device.send(unsubscribe + subscribe + first + unsubscribe + first + subscribe + last)
        got = [device.receive()]
        while got[-1][1] != b"last":
            got.append(device.receive())
        assert [one for one in got if one[0] != command] == [(topic, b"first"), (topic, b"last")]


@pytest.mark.parametrize(
    "answered",
    [
        lambda one: one.handle_pingreq(PingReqPacket()),
        lambda one: one.handle_pubrel(PubrelPacket.build(1)),
    ],
    ids=["ping", "release"],
)
def test_who_reads_no_answers_is_not_read_any_more(
    answered: Callable[[InboundHandler], Coroutine[Any, Any, None]], tmp_path: Path
) -> None:
    """Else its answers would gather in the broker's memory."""

    async def ask() -> None:
        broker = RuledBroker(BrokerConfig(tmp_path, ("localhost",), 8883))
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        handler = InboundHandler(broker.plugins_manager, broker)
        session = Session()
        session.client_id = "device"
        handler.attach(session, StreamReaderAdapter(reader), StreamWriterAdapter(writer))
        writer.write(bytes(10_000_000))  # more than the sockets hold
        waiting = [asyncio.ensure_future(answered(handler)) for _ in range(99)]
        await asyncio.sleep(0)
        assert not handler.busy
        waiting.append(asyncio.ensure_future(answered(handler)))
        await asyncio.sleep(0)
        assert handler.busy
        theirs.settimeout(seconds(20))
        with theirs:
            draining = asyncio.to_thread(_read_all, theirs, 10_000_000)
            await asyncio.wait_for(asyncio.gather(*waiting, draining), seconds(20))
        assert not handler.busy
        writer.close()

    asyncio.run(ask())


def _read_all(connection: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(connection.recv(1 << 20))


def test_the_log_says_which_version_of_mqtt_is_spoken(door: Door) -> None:
    device_id = door.new_id()
    with door.peer(door.credentials(device_id)) as device:
        head = field("MQTT") + struct.pack("!BBH", 5, 2, 60)
        assert device.ask(packet(CONNECT, head + b"\0" + field(device_id)), CONNACK).body[1] == 1
        device.wait_closed()
    assert f"{device_id} does not speak MQTT 3.1.1" in door.broker.log.read_text()


def test_what_came_right_before_the_end_is_taken(door: Door) -> None:
    device_id = door.new_id()
    topic = f"devices/{device_id}/t"
    with door.enter("controller") as controller:
        controller.subscribe(topic)
        with door.enter(device_id) as device:
            device.send(publish(topic, b"last", 0) + packet(DISCONNECT))
            device.wait_closed()
        assert controller.receive() == (topic, b"last")


def test_backlog_is_bounded() -> None:
    async def fill() -> tuple[int, int, int]:
        few = Backlog(Limits(queued_messages=3, queued_bytes=1000))
        small = Backlog(Limits(queued_messages=1000, queued_bytes=10))
        for _ in range(5):
            few.add("t", b"1", 1, retain=False)
            small.add("t", b"123", 1, retain=False)
        sizes = few.qsize(), small.qsize()
        small.get_nowait()
        small.add("t", b"123", 1, retain=False)
        return *sizes, small.qsize()

    assert asyncio.run(fill()) == (3, 2, 2)


def test_backlog_counts_the_bytes_of_a_topic_and_not_its_letters() -> None:
    async def fill() -> int:
        backlog = Backlog(Limits(queued_bytes=19))
        for _ in range(3):
            backlog.add(chr(0x20AC) * 3, b"1", 1, retain=False)
        return backlog.qsize()

    assert asyncio.run(fill()) == 1


def test_a_shared_subscription_is_refused(door: Door) -> None:
    """Granted, it would bring nothing. The other one of the packet holds."""
    device_id = door.new_id()
    plain, shared = f"devices/{device_id}/#", f"$share/workers/devices/{device_id}/#"
    with door.enter(device_id) as device:
        filters = b"".join(field(one) + b"\1" for one in (shared, plain))
        assert device.ask(answer(SUBSCRIBE, 7, filters), SUBACK).body[2:] == bytes([0x80, 1])
        device.publish(f"devices/{device_id}/t", b"x")
        assert device.receive() == (f"devices/{device_id}/t", b"x")
    assert f"{device_id} asks for a shared subscription" in door.broker.log.read_text()
