"""The contract packet by packet: a broker of our own says what no real one can be made to say, over
real mutual TLS.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.play import CPYTHON, INTERPRETERS
from contract.remote import Remote
from securemqtt_tools.pki import Authority
from support.brokers.scripted import Connection, ScriptedBroker
from support.identities.bundles import write_bundle
from support.packets import (
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    Packet,
    answer,
    packet,
    publish,
)

_numbers = itertools.count()

Start = Callable[..., Remote]


@pytest.fixture
def scripted(authority: Authority, tmp_path: Path) -> Iterator[ScriptedBroker]:
    """A broker for each test, so that no device of the one before is in its queue."""
    with ScriptedBroker(tmp_path / "scripted", authority) as broker:
        yield broker


@pytest.fixture(params=INTERPRETERS)
def interpreter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(
    interpreter: str,
    authority: Authority,
    scripted: ScriptedBroker,
    tmp_path: Path,
    board_directory: Path,
) -> Iterator[Start]:
    """Start a device that goes to the scripted broker."""
    remotes = []

    def make(**options: object) -> Remote:
        name = f"scripted-{interpreter}-{next(_numbers)}"
        bundle = write_bundle(
            tmp_path / name, authority, name, port=scripted.port, board=interpreter != CPYTHON
        )
        remote = Remote(interpreter, bundle, board_directory, **{"status": False, **options})
        remotes.append(remote)
        return remote

    yield make
    for remote in remotes:
        remote.__exit__(None, None, None)


def connect(
    remote: Remote, scripted: ScriptedBroker, *, session_present: bool = False
) -> Connection:
    """Have the device connect, and accept it."""
    remote.tell("client.start() or link_until(lambda: client.connected)")
    connection = scripted.connection()
    connection.accept(session_present=session_present)
    assert remote.answer() is True
    return connection


def reconnect(
    remote: Remote, scripted: ScriptedBroker, lost: Connection, *, session_present: bool
) -> Connection:
    """Lose a connection, and accept the next one."""
    remote.tell("link_until(lambda: client.stats['failures'] > 0 and client.connected)")
    lost.__exit__(None, None, None)
    connection = scripted.connection()
    connection.accept(session_present=session_present)
    assert remote.answer() is True
    return connection


def read_publishes(connection: Connection, count: int) -> list[Packet]:
    """Read so many PUBLISH."""
    return [connection.expect(PUBLISH) for _ in range(count)]


def test_connect_says_who_it_is(start: Start, scripted: ScriptedBroker) -> None:
    remote = start(
        keep_alive_s=77,
        will=["~/gone", "bye", 1, True],
        username="me",
        password="secret",
        clean_session=True,
    )
    remote.tell("client.start() or link_until(lambda: client.connected)")
    with scripted.connection() as connection:
        body = connection.accept().body
        assert remote.answer() is True
    client_id = remote.ask("client.client_id")
    fields = [client_id, f"devices/{client_id}/gone", "bye", "me", "secret"]
    expected = b"\0\4MQTT\4" + bytes([0x80 | 0x40 | 0x20 | 1 << 3 | 4 | 2, 0, 77])
    assert body == expected + b"".join(
        len(field).to_bytes(2, "big") + field.encode() for field in fields
    )


def test_an_orderly_leave_ends_with_disconnect(start: Start, scripted: ScriptedBroker) -> None:
    remote = start(status=True)
    with connect(remote, scripted) as connection:
        remote.tell("client.disconnect()")
        assert [connection.expect(PUBLISH).payload for _ in range(2)] == [b"online", b"offline"]
        assert connection.read() == Packet(DISCONNECT, b"")
        assert connection.gone()
        remote.answer()


def test_the_window_is_filled_and_not_overrun(start: Start, scripted: ScriptedBroker) -> None:
    remote = start(window=5)
    with connect(remote, scripted) as connection:
        remote.ask("[client.publish('~/a', str(n)) for n in range(12)] and 0")
        first = read_publishes(connection, 5)
        assert [packet.payload for packet in first] == [b"0", b"1", b"2", b"3", b"4"]
        assert len({packet.packet_id for packet in first}) == 5
        with pytest.raises(TimeoutError):
            connection.read(0.3)
        remote.tell("link_until(lambda: client.stats['acknowledged'] == 2)")
        connection.send(answer(PUBACK, first[0].packet_id) + answer(PUBACK, first[1].packet_id))
        assert remote.answer() is True
        assert [packet.payload for packet in read_publishes(connection, 2)] == [b"5", b"6"]


def test_a_kept_session_gets_what_was_in_flight_again_with_dup(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start(window=4)
    connection = connect(remote, scripted)
    remote.ask("[client.publish('~/a', str(n)) for n in range(6)] and 0")
    before = read_publishes(connection, 4)
    assert not any(packet.dup for packet in before)
    remote.tell("link_until(lambda: client.stats['acknowledged'] == 1)")
    connection.send(answer(PUBACK, before[1].packet_id))  # not the first one
    assert remote.answer() is True
    assert read_publishes(connection, 1)[0].payload == b"4"
    with reconnect(remote, scripted, connection, session_present=True) as again:
        after = read_publishes(again, 4)
        assert [packet.payload for packet in after] == [b"0", b"2", b"3", b"4"]
        assert all(packet.dup for packet in after)
        assert [packet.packet_id for packet in after][:3] == [
            before[n].packet_id for n in (0, 2, 3)
        ]
        remote.tell("link_until(lambda: client.flush(0))")
        for sent in after:
            again.send(answer(PUBACK, sent.packet_id))
        last = again.expect(PUBLISH)
        assert (last.payload, last.dup) == (b"5", False)
        again.send(answer(PUBACK, last.packet_id))
        assert remote.answer() is True


def test_a_new_session_gets_it_as_new(start: Start, scripted: ScriptedBroker) -> None:
    remote = start(window=4)
    connection = connect(remote, scripted)
    remote.ask("[client.publish('~/a', str(n)) for n in range(4)] and 0")
    read_publishes(connection, 4)
    with reconnect(remote, scripted, connection, session_present=False) as again:
        after = read_publishes(again, 4)
        assert [(packet.payload, packet.dup) for packet in after] == [
            (b"%d" % n, False) for n in range(4)
        ]


def test_subscriptions_come_back_with_a_new_session_only(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start()
    remote.ask("subscribe('~/a', 1)")
    connection = connect(remote, scripted)
    remote.tell("link_until(granted)")
    asked = connection.expect(SUBSCRIBE)
    connection.send(answer(0x90, asked.packet_id, b"\x01"))
    assert remote.answer() is True
    connection = reconnect(remote, scripted, connection, session_present=True)
    with pytest.raises(TimeoutError):
        connection.read(0.2)
    remote.ask("failures_from_now()")
    with reconnect(remote, scripted, connection, session_present=False) as again:
        assert again.expect(SUBSCRIBE).body[2:] == asked.body[2:]


def test_a_refused_subscription_is_told(start: Start, scripted: ScriptedBroker) -> None:
    remote = start()
    remote.ask("subscribe('~/a', 1)")
    with connect(remote, scripted) as connection:
        remote.tell("link_until(lambda: client.last_error is not None)")
        connection.send(answer(0x90, connection.expect(SUBSCRIBE).packet_id, b"\x80"))
        assert remote.answer() is True
        assert remote.ask("error()") == "SubscriptionRefused"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1, "ProtocolRefused"),
        (2, "ClientIdRefused"),
        (3, "BrokerFull"),
        (4, "NotAuthorised"),
        (5, "NotAuthorised"),
        (7, "ProtocolRefused"),
    ],
)
def test_a_refused_connect_is_told(
    start: Start, scripted: ScriptedBroker, code: int, name: str
) -> None:
    remote = start()
    remote.tell("client.start() or link_until(lambda: client.state == 'waiting')")
    with scripted.connection() as connection:
        connection.read()
        connection.send(packet(0x20, bytes([0, code])))
        assert remote.answer() is True
        assert connection.gone()
    assert remote.ask("error()") == name


def test_reserved_flags_in_the_answer_to_connect_end_the_connection(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start()
    remote.tell("client.start() or link_until(lambda: client.state == 'waiting')")
    with scripted.connection() as connection:
        connection.read()
        connection.send(packet(CONNACK, b"\2\0"))
        assert remote.answer() is True
        assert connection.gone()
    assert remote.ask("error()") == "MalformedPacket"


def test_the_end_of_a_qos_2_message_that_was_not_received_is_none(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start()
    with connect(remote, scripted) as connection:
        remote.ask("globals().update(d=client.publish('~/a', b'', 2))")
        sent = read_publishes(connection, 1)[0]
        connection.send(answer(PUBCOMP, sent.packet_id) + packet(PINGRESP))
        remote.ask("link_until(lambda: client._connection.link.session.pongs)")
        assert remote.ask("client.connected and not d.acknowledged") is True
        remote.tell("link_until(lambda: d.acknowledged)")
        connection.send(answer(PUBREC, sent.packet_id) + answer(PUBCOMP, sent.packet_id))
        assert remote.answer() is True


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00",
        b"\xf0\x00",
        packet(0x20, b"\0\0"),  # a second CONNACK
        packet(0x10, b"\0\4MQTT\4\2\0\x3c\0\1a"),  # what only a client sends
        packet(PUBACK, b"\0\1\0"),
        packet(PUBACK, b"\1"),
        packet(0x42, b"\0\1"),
        packet(0x36, b"\0\1a\0\1"),  # QoS 3
        packet(0x32, b"\0\7a\0\1x"),  # a topic longer than the packet
        packet(0x30, b"\0\2\xc3\x28"),  # a topic that is not UTF-8
        packet(0x30, b"\0\2\xc0\xaf"),  # one not in its shortest form
        packet(0x30, b"\0\3\xe0\x80\xaf"),
        packet(0x30, b"\0\3\xed\xa0\x80"),  # half a surrogate pair
        packet(0x30, b"\0\4\xf4\x90\x80\x80"),  # beyond Unicode
        packet(0x30, b"\0\2a\0"),  # NUL
        packet(0x30, b"\0\3a/+"),  # a wildcard
        packet(0x30, b"\0\1#"),
        packet(0x30, b"\0\0x"),  # no topic
        packet(0x32, b"\0\1a\0\0"),  # a packet id of 0
        answer(PUBACK, 0),
        answer(PUBREL, 0),
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
    ],
)
def test_garbage_ends_the_connection(
    start: Start, scripted: ScriptedBroker, garbage: bytes
) -> None:
    remote = start()
    with connect(remote, scripted) as connection:
        remote.tell("link_until(lambda: not client.connected)")
        connection.send(garbage)
        assert remote.answer() is True
        assert connection.gone()
    assert remote.ask("error()") == "MalformedPacket"


def test_what_was_never_sent_may_be_acknowledged(start: Start, scripted: ScriptedBroker) -> None:
    remote = start()
    with connect(remote, scripted) as connection:
        delivery = "globals().update(d=client.publish('~/a', b''))"
        remote.ask(delivery)
        sent = read_publishes(connection, 1)[0]
        others = [number for number in (1, 2, 65535) if number != sent.packet_id]
        for number in others:
            for kind in (PUBACK, PUBREC, PUBCOMP, 0xB0):
                connection.send(answer(kind, number))
            connection.send(answer(0x90, number, b"\0"))
        connection.send(
            answer(PUBREC, sent.packet_id)
            + answer(PUBCOMP, sent.packet_id)
            + answer(0x90, sent.packet_id, b"\1")
        )
        remote.ask("link_until(lambda: False, 0.3)")
        assert remote.ask("client.connected and not d.acknowledged") is True
        remote.tell("link_until(lambda: d.acknowledged)")
        connection.send(answer(PUBACK, sent.packet_id) * 2)
        assert remote.answer() is True
        assert remote.ask("client.flush(0) and client.stats['acknowledged']") == 1


def test_a_message_is_acknowledged_once_its_handler_has_returned(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start()
    remote.ask("subscribe('#', 1)")
    with connect(remote, scripted) as connection:
        remote.tell("link_until(lambda: len(waiting()) == 3)")
        connection.expect(SUBSCRIBE)
        connection.send(publish("a", b"1", 1, 7) + publish("a", b"0") + publish("a", b"2", 1, 9))
        assert remote.answer() is True
        with pytest.raises(TimeoutError):
            connection.read(0.3)
        assert remote.ask("until(lambda: len(messages) == 3)") is True
        assert [connection.read() for _ in range(2)] == [
            Packet(PUBACK, b"\0\x07"),
            Packet(PUBACK, b"\0\x09"),
        ]
        assert remote.ask("messages") == [
            ["a", "1", 1, False],
            ["a", "0", 0, False],
            ["a", "2", 1, False],
        ]


def test_a_message_that_comes_again_is_not_run_again(
    start: Start, scripted: ScriptedBroker
) -> None:
    """Neither one that waited for its handler meanwhile, nor one that was handled too late for its
    connection.
    """
    remote = start()
    remote.ask("subscribe('#', 1)")
    connection = connect(remote, scripted)
    remote.tell("link_until(lambda: len(waiting()) == 2)")
    asked = connection.expect(SUBSCRIBE)
    connection.send(answer(SUBACK, asked.packet_id, b"\1"))
    connection.send(publish("a", b"1", 1, 7) + publish("a", b"2", 1, 8))
    remote.answer()
    again = reconnect(remote, scripted, connection, session_present=True)
    with pytest.raises(TimeoutError):
        again.read(0.2)
    remote.tell("link_until(lambda: len(waiting()) == 3)")
    again.send(publish("a", b"1", 1, 7, dup=True) + publish("a", b"2", 1, 8, dup=True))
    again.send(publish("a", b"3", 1, 9))
    remote.answer()
    assert remote.ask("until(lambda: len(messages) == 3)") is True
    assert [again.read() for _ in range(3)] == [
        Packet(PUBACK, bytes([0, number])) for number in (7, 8, 9)
    ]
    # PUBACK was written, and nothing says that it arrived.
    remote.ask("failures_from_now()")
    with reconnect(remote, scripted, again, session_present=True) as third:
        third.send(publish("a", b"2", 1, 8, dup=True))
        third.send(publish("a", b"3", 1, 9, dup=True) + publish("a", b"1", 1, 7))
        assert remote.ask("until(lambda: len(messages) == 4)") is True
        assert [third.read() for _ in range(3)] == [
            Packet(PUBACK, bytes([0, number])) for number in (8, 9, 7)
        ]
        assert remote.ask("[text for _, text, _, _ in messages]") == ["1", "2", "3", "1"]
        assert remote.ask("client.stats['not_run_again']") == 2


def test_what_a_new_session_sends_is_run(start: Start, scripted: ScriptedBroker) -> None:
    remote = start()
    remote.ask("subscribe('#', 1)")
    connection = connect(remote, scripted)
    remote.tell("until(lambda: messages)")
    connection.send(publish("a", b"1", 1, 7))
    remote.answer()
    with reconnect(remote, scripted, connection, session_present=False) as again:
        again.send(publish("a", b"1", 1, 7, dup=True))
        assert remote.ask("until(lambda: len(messages) == 2)") is True


@pytest.mark.parametrize("qos", [1, 2])
def test_what_comes_before_its_subscription_waits_for_it(
    start: Start, scripted: ScriptedBroker, qos: int
) -> None:
    """And what comes behind it is handled meanwhile, but not acknowledged before it."""
    remote = start(early_s=60)
    remote.ask("subscribe('other', 1)")
    with connect(remote, scripted, session_present=True) as connection:
        asked = connection.expect(SUBSCRIBE)
        connection.send(answer(SUBACK, asked.packet_id, b"\1"))
        connection.send(publish("early", b"1", qos, 7) + publish("other", b"2", qos, 8))
        connection.send(publish("early", b"3", qos, 9))
        assert remote.ask("until(lambda: len(messages) == 1)") is True
        with pytest.raises(TimeoutError):
            connection.read(0.3)
        remote.ask("subscribe('early', 1)")
        assert remote.ask("until(lambda: len(messages) == 3)") is True
        kind = PUBACK if qos == 1 else PUBREC
        seen = [connection.read() for _ in range(4)]
        assert [packet for packet in seen if packet.kind != SUBSCRIBE] == [
            Packet(kind, bytes([0, number])) for number in (7, 8, 9)
        ]
        assert remote.ask("[text for _, text, _, _ in messages]") == ["2", "1", "3"]
        assert remote.ask("client.stats['unhandled']") == 0


def test_a_program_that_leaves_gives_up_what_it_has_no_handler_for(
    start: Start, scripted: ScriptedBroker
) -> None:
    """Else 20 of them would fill the broker's window in each run of a program that wakes for less
    than `early_s`, and what it did ask for would never come.
    """
    remote = start(early_s=60)
    remote.ask("log_lines()")
    remote.ask("subscribe('other', 1)")
    with connect(remote, scripted, session_present=True) as connection:
        asked = connection.expect(SUBSCRIBE)
        connection.send(answer(SUBACK, asked.packet_id, b"\1"))
        connection.send(publish("early", b"1", 1, 7) + publish("other", b"2", 1, 8))
        assert remote.ask("until(lambda: len(messages) == 1)") is True
        remote.tell("client.disconnect()")
        assert [connection.read() for _ in range(2)] == [
            Packet(PUBACK, bytes([0, number])) for number in (7, 8)
        ]
        connection.expect(DISCONNECT)
    remote.answer()
    assert remote.ask("client.stats['unhandled']") == 1
    assert remote.ask("len([line for line in log_text if 'has no handler' in line])") == 1


def test_what_nobody_subscribes_to_is_acknowledged_counted_and_told_once(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start(early_s=0.2)
    remote.ask("log_lines()")
    with connect(remote, scripted, session_present=True) as connection:
        connection.send(publish("early", b"1", 1, 7) + publish("early", b"0"))
        remote.tell("until(lambda: client.stats['unhandled'] == 2)")
        assert connection.read() == Packet(PUBACK, b"\0\7")
        assert remote.answer() is True
        connection.send(publish("late", b"2", 1, 8))
        remote.tell("until(lambda: client.stats['unhandled'] == 3)")
        assert connection.read() == Packet(PUBACK, b"\0\10")
        assert remote.answer() is True
    assert remote.ask("len([line for line in log_text if 'has no handler' in line])") == 1


def test_a_message_of_a_shared_subscription_is_handled(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start()
    remote.ask("subscribe('$share/group/a/+', 1)")
    with connect(remote, scripted) as connection:
        connection.expect(SUBSCRIBE)
        connection.send(publish("a/b", b"1", 1, 7))
        assert remote.ask("until(lambda: messages)") is True
        assert connection.read() == Packet(PUBACK, b"\0\7")


def test_a_program_may_acknowledge_later_and_in_any_order(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start()
    remote.ask("keep_later('a')")
    with connect(remote, scripted) as connection:
        connection.expect(SUBSCRIBE)
        for number in (7, 8, 9):
            connection.send(publish("a", b"%d" % number, 1, number))
        assert remote.ask("until(lambda: len(kept) == 3)") is True
        remote.ask("[kept[number].acknowledge() for number in (2, 1)] and client.poll()")
        with pytest.raises(TimeoutError):
            connection.read(0.3)
        remote.ask("[kept[0].acknowledge(), kept[0].acknowledge(), client.poll()] and 0")
        assert [connection.read() for _ in range(3)] == [
            Packet(PUBACK, bytes([0, number])) for number in (7, 8, 9)
        ]


def test_a_puback_for_qos_2_is_final(start: Start, scripted: ScriptedBroker) -> None:
    """RabbitMQ answers so."""
    remote = start(window=2)
    with connect(remote, scripted) as connection:
        remote.ask("[client.publish('~/a', str(n), qos=2) for n in range(4)] and 0")
        for number in range(4):
            sent = connection.expect(PUBLISH)
            assert sent.payload == b"%d" % number
            remote.tell(f"link_until(lambda: client.stats['acknowledged'] == {number + 1})")
            connection.send(answer(PUBACK, sent.packet_id))
            assert remote.answer() is True
        assert remote.ask("client.flush(0)") is True


def test_an_unknown_pubrec_is_answered(start: Start, scripted: ScriptedBroker) -> None:
    remote = start()
    with connect(remote, scripted) as connection:
        remote.tell("link_until(lambda: False, 0.5)")
        connection.send(answer(PUBREC, 77) + answer(PUBREL, 78) + answer(PUBCOMP, 79))
        assert connection.read().body == b"\0\x4d"
        assert connection.read() == Packet(PUBCOMP, b"\0\x4e")
        assert remote.answer() is False
        assert remote.ask("client.connected") is True


def test_a_session_that_was_not_to_be_kept_is_taken_for_none(
    start: Start, scripted: ScriptedBroker
) -> None:
    remote = start(clean_session=True)
    remote.ask("log_lines()")
    remote.ask("subscribe('~/a', 1)")
    connection = connect(remote, scripted, session_present=True)
    asked = connection.expect(SUBSCRIBE)
    connection.send(answer(SUBACK, asked.packet_id, b"\1"))
    assert remote.ask("link_until(granted)") is True
    with reconnect(remote, scripted, connection, session_present=True) as again:
        assert again.expect(SUBSCRIBE).body[2:] == asked.body[2:]
    assert remote.ask("len([line for line in log_text if 'MQTT-3.2.2-1' in line])") == 1


def test_a_message_above_the_bound_is_left_out(start: Start, scripted: ScriptedBroker) -> None:
    remote = start(max_packet_bytes=2000)
    remote.ask("subscribe('#', 1)")
    with connect(remote, scripted) as connection:
        remote.tell("link_until(lambda: waiting())")
        connection.expect(SUBSCRIBE)
        connection.send(
            publish("a", bytes(100_000))
            + publish("a", bytes(100_000), 1, 7)
            + publish("a", b"next")
        )
        assert connection.read() == Packet(PUBACK, b"\0\x07")
        assert remote.answer() is True
        assert remote.ask("[client.stats['oversized'], waiting()[0].payload.decode()]") == [
            2,
            "next",
        ]


def test_a_claim_of_256_megabytes_takes_no_memory(start: Start, scripted: ScriptedBroker) -> None:
    remote = start(max_packet_bytes=2000)
    remote.ask("subscribe('#', 1)")
    with connect(remote, scripted) as connection:
        connection.expect(SUBSCRIBE)
        connection.send(b"\x32\xff\xff\xff\x7f\0\1a\0\x07" + bytes(2000))
        assert connection.read() == Packet(PUBACK, b"\0\x07")
        assert remote.ask("client.stats['oversized']") == 1
        before = remote.resident_bytes()
        remote.tell("link_until(lambda: not client.connected, 1)")
        connection.send(bytes(8_000_000))
        assert remote.answer() is False
        assert remote.resident_bytes() - before < 4_000_000


def test_qos_2_out(start: Start, scripted: ScriptedBroker) -> None:
    remote = start()
    connection = connect(remote, scripted)
    remote.ask("[client.publish('~/a', str(n), qos=2) for n in range(3)] and 0")
    first, second, third = read_publishes(connection, 3)
    connection.send(answer(PUBREC, first.packet_id) + answer(PUBREC, second.packet_id))
    assert [connection.expect(PUBREL).packet_id for _ in range(2)] == [
        first.packet_id,
        second.packet_id,
    ]
    connection.send(answer(PUBCOMP, first.packet_id))
    assert remote.ask("link_until(lambda: client.stats['acknowledged'] == 1)") is True
    connection = reconnect(remote, scripted, connection, session_present=True)
    assert connection.expect(PUBREL).packet_id == second.packet_id
    again = connection.expect(PUBLISH)
    assert (again.packet_id, again.dup, again.payload) == (third.packet_id, True, b"2")
    connection.send(answer(PUBREC, third.packet_id))
    assert connection.expect(PUBREL).packet_id == third.packet_id
    # a broker that has forgotten all about it gets the messages once more, as new ones
    remote.ask("failures_from_now()")
    with reconnect(remote, scripted, connection, session_present=False) as last:
        whole = [last.expect(PUBLISH) for _ in range(2)]
        assert [(packet.payload, packet.dup, packet.qos) for packet in whole] == [
            (b"1", False, 2),
            (b"2", False, 2),
        ]
        for sent in whole:
            last.send(answer(PUBREC, sent.packet_id))
            assert last.expect(PUBREL).packet_id == sent.packet_id
            last.send(answer(PUBCOMP, sent.packet_id))
        assert remote.ask("client.flush(patience_s)") is True


def test_qos_2_in(start: Start, scripted: ScriptedBroker) -> None:
    remote = start()
    remote.ask("subscribe('#', 2)")
    connection = connect(remote, scripted)
    connection.expect(SUBSCRIBE)
    connection.send(publish("a", b"1", 2, 7))
    assert remote.ask("link_until(lambda: len(waiting()) == 1)") is True
    connection.send(publish("a", b"1", 2, 7, dup=True))
    with pytest.raises(TimeoutError):
        connection.read(0.3)  # the handler has not run
    # lost in between: the broker sends it again, the handler gets it once, and that answers it
    connection = reconnect(remote, scripted, connection, session_present=True)
    connection.expect(SUBSCRIBE)
    connection.send(publish("a", b"1", 2, 7, dup=True))
    with pytest.raises(TimeoutError):
        connection.read(0.3)
    assert remote.ask("until(lambda: messages)") is True
    assert connection.read() == Packet(PUBREC, b"\0\x07")
    connection.send(publish("a", b"1", 2, 7, dup=True))
    assert connection.read() == Packet(PUBREC, b"\0\x07")
    connection.send(answer(PUBREL, 7))
    assert connection.read() == Packet(PUBCOMP, b"\0\x07")
    connection.send(answer(PUBREL, 7))  # PUBCOMP was lost
    assert connection.read() == Packet(PUBCOMP, b"\0\x07")
    connection.send(publish("a", b"2", 2, 7))  # the id is free again
    assert remote.ask("until(lambda: len(messages) == 2)") is True
    assert connection.read() == Packet(PUBREC, b"\0\x07")
    assert remote.ask("messages") == [["a", "1", 2, False], ["a", "2", 2, False]]
    connection.__exit__(None, None, None)
