"""The packet reader: whole packets from any pieces, and a clear error for what no broker may send.

Fuzzing is in test_packet_fuzz.py.
"""

from securemqtt.messages import Message
from securemqtt.protocol.incoming import message_of
from securemqtt.protocol.session import Reader, head, with_id
from support.interpreters.either import raised
from support.models.packet_streams import read
from support.packets import packet, publish


def _whole(limit: int) -> int:
    return limit


def _one(limit: int) -> int:
    return 1


def test_each_kind_comes_out_as_it_went_in() -> None:
    bodies = (
        (0x20, b"\0\0"),
        (0x40, b"\1\2"),
        (0x50, b"\1\2"),
        (0x62, b"\1\2"),
        (0x70, b"\1\2"),
        (0x90, b"\1\2\1"),
        (0xB0, b"\1\2"),
        (0xD0, b""),
        (0x30, b"\0\1txyz"),
        (0x31, b"\0\1t"),
        (0x3A, b"\0\1t\0\1x"),
        (0x3C, b"\0\1t\0\1"),
    )
    stream = b"".join([packet(kind, body) for kind, body in bodies])
    wanted = [(kind, body, 0) for kind, body in bodies]
    for cut in (_whole, _one):
        assert read(Reader(1000), stream, cut) == (wanted, "whole")


def test_a_packet_larger_than_the_buffer_has_a_buffer_of_its_own() -> None:
    sizes = (1, 100, 124, 125, 126, 127, 128, 129, 500, 16384 - 3)
    stream = b"".join([publish(b"t", bytes((n & 255,)) * n) for n in sizes])
    for cut in (_whole, _one):
        packets, end = read(Reader(16384, 128), stream, cut)
        assert end == "whole"
        assert [(kind, len(body), oversized) for kind, body, oversized in packets] == [
            (0x30, n + 3, 0) for n in sizes
        ]


def test_of_a_packet_above_the_limit_only_the_topic_and_the_id_are_kept() -> None:
    stream = (
        publish(b"topic", b"x" * 1000, 1, 9)
        + publish(b"t", b"y" * 100)
        + publish(b"a/b", b"x" * 2000)
        + packet(0xD0, b"")
    )
    for cut in (_whole, _one):
        packets, end = read(Reader(200), stream, cut)
        assert end == "whole"
        assert packets == [
            (0x32, b"\0\5topic\0\x09", 1009),
            (0x30, b"\0\1t" + b"y" * 100, 0),
            (0x30, b"\0\3a/b", 2005),
            (0xD0, b"", 0),
        ]


def test_above_the_limit_by_its_topic_alone() -> None:
    for qos in (0, 1):
        for retain in (0, 1):
            stream = bytearray(publish(b"t" * 30, b"", qos))
            stream[0] |= retain
            packets, end = read(Reader(16), bytes(stream), _one)
            assert (len(packets), end) == (1, "whole")


def test_a_topic_above_the_buffer_is_kept_up_to_the_limit() -> None:
    behind = packet(0x40, b"\1\2")
    for topic_bytes in (100, 124, 125, 126, 127, 300, 998):
        for cut in (_whole, _one):
            reader = Reader(1000, 128)
            packets, end = read(reader, publish(b"t" * topic_bytes, b"x" * 5000) + behind, cut)
            assert end == "whole"
            assert [(len(body), oversized) for _, body, oversized in packets] == [
                (2 + topic_bytes, 5002 + topic_bytes),
                (2, 0),
            ]
            assert len(reader.data) <= 512
    for cut in (_whole, _one):
        assert read(Reader(1000, 128), publish(b"t" * 999, b"x" * 5000), cut) == ([], "malformed")


def test_the_limit_itself_is_not_above_it() -> None:
    for size, oversized in ((100, 0), (101, 101)):
        packets, _ = read(Reader(100, 64), publish(b"t", b"x" * (size - 3)), _whole)
        assert packets[0][2] == oversized


def test_lengths_take_one_to_four_bytes() -> None:
    for size in (127, 128, 16383, 16384, 2097151, 2097152, 268435455):
        head = b"\x30"
        left = size
        while left > 127:
            head += bytes((left & 127 | 128,))
            left >>= 7
        packets, end = read(Reader(100), head + bytes((left,)) + b"\0\1t", _one)
        assert (packets, end) == ([(0x30, b"\0\1t", size)], "unfinished")


def test_what_goes_out_has_its_length_in_one_to_four_bytes() -> None:
    for size, wanted in (
        (0, b"\0"),
        (126, b"\x7e"),
        (127, b"\x7f"),
        (128, b"\x80\1"),
        (129, b"\x81\1"),
        (16383, b"\xff\x7f"),
        (16384, b"\x80\x80\1"),
        (2097151, b"\xff\xff\x7f"),
        (2097152, b"\x80\x80\x80\1"),
        (268435455, b"\xff\xff\xff\x7f"),
    ):
        assert bytes(head(0x82, size)) == b"\x82" + wanted, size


def test_an_acknowledgement_is_an_id_of_two_bytes() -> None:
    for packet_id, wanted in ((1, b"\0\1"), (255, b"\0\xff"), (256, b"\1\0"), (65535, b"\xff\xff")):
        assert with_id(0x40, packet_id) == b"\x40\2" + wanted


def test_what_no_broker_may_send_is_an_error_that_names_it() -> None:
    for bad in (
        b"\0\0",  # no such type
        b"\xf0\0",  # no such type
        b"\x10\0",  # CONNECT comes from clients only
        b"\x82\3\0\1\1",  # so does SUBSCRIBE
        b"\xc0\0",  # and PINGREQ
        b"\xe0\0",  # and DISCONNECT
        b"\x20\3\0\0\0",  # CONNACK of three bytes
        b"\x21\2\0\0",  # CONNACK with flags
        b"\x40\1\0",  # PUBACK of one byte
        b"\x60\2\0\1",  # PUBREL without its flag
        b"\x90\2\0\1",  # SUBACK without a return code
        b"\xd0\1\0",  # PINGRESP with a body
        b"\x36\6\0\1t\0\1x",  # QoS 3
        b"\x30\2\0\0",  # PUBLISH without a topic
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\x80\x80\x80\x80",  # the same, of value 0
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\0\x02\x02\x28",  # a TLS alert
    ):
        for cut in (_whole, _one):
            assert read(Reader(1000), bad, cut) == ([], "malformed"), bad


def _taken_apart(stream: bytes, max_bytes: int = 4000) -> Message:
    reader = Reader(max_bytes)
    at = 0
    while True:
        kind = reader.next()
        if kind:
            return message_of(reader, kind, 5)
        space = reader.space()
        piece = stream[at : at + len(space)]
        assert piece
        space[: len(piece)] = piece
        reader.fed(len(piece))
        at += len(piece)


def test_a_publish_is_taken_apart() -> None:
    for first, qos, retain, dup in (
        (0x30, 0, False, False),
        (0x31, 0, True, False),
        (0x32, 1, False, False),
        (0x3A, 1, False, True),
        (0x3D, 2, True, True),
    ):
        for topic in ("t", "ü/" * 100 + "t"):  # the second is longer than 255 bytes
            for payload in (b"", b"x", bytes(range(256))):
                name = topic.encode()
                body = bytes((len(name) >> 8, len(name) & 255)) + name
                if qos:
                    body += b"\x12\x34"
                message = _taken_apart(packet(first, body + payload))
                assert (message.topic, message.payload) == (topic, payload)
                assert (message.qos, message.retain, message.dup) == (qos, retain, dup)
                assert message.packet_id == (0x1234 if qos else 0)
                assert message.connection_number == 5


def test_of_an_oversized_publish_there_is_no_payload() -> None:
    message = _taken_apart(publish(b"topic", b"x" * 1000, 1, 9), 200)
    assert (message.topic, message.payload, message.packet_id) == ("topic", b"", 9)


def test_a_publish_that_cannot_be_taken_apart_is_malformed() -> None:
    for bad in (
        packet(0x30, b"\0\2t"),  # its topic is longer than itself
        packet(0x32, b"\0\2tt"),  # it has no packet id
        packet(0x32, b"\0\2tt\1"),  # half a packet id
        packet(0x30, b"\0\2t\xff"),  # not UTF-8
        packet(0x30, b"\0\2\xc3t"),
    ):
        error = raised("MalformedPacket", _taken_apart, bad)
        assert error.code == bad[0]


def test_a_large_packet_takes_no_more_memory_for_what_came_before_it() -> None:
    reader = Reader(16384, 128)
    stream = publish(b"t", b"x" * 70) + publish(b"t", b"y" * 1000)
    reader.space()[:128] = stream[:128]
    reader.fed(128)
    assert reader.next() == 0x30 and reader.next() == 0
    assert len(reader.data) <= 1000 + 10


def test_a_suback_may_have_up_to_64_bytes() -> None:
    for size, end in ((64, "whole"), (65, "malformed")):
        assert read(Reader(1000), packet(0x90, bytes(size)), _whole)[1] == end


def test_the_packets_before_a_bad_one_are_given() -> None:
    stream = packet(0x40, b"\0\1") + packet(0xD0, b"") + b"\xf0\0"
    assert read(Reader(1000), stream, _whole) == ([(0x40, b"\0\1", 0), (0xD0, b"", 0)], "malformed")


def test_an_error_carries_the_first_byte() -> None:
    reader = Reader(1000)
    reader.space()[:2] = b"\xf1\0"
    reader.fed(2)
    error = raised("MalformedPacket", reader.next)
    assert error.code == 0xF1
    assert error.transient


def test_a_begun_packet_shows_until_it_is_whole() -> None:
    for size in (5, 300, 5000):
        stream = publish(b"t", b"x" * size)
        for have in (1, 2, 4, len(stream) - 1):
            reader = Reader(1000, 128)
            read(reader, stream[:have], _one)
            assert reader.partial(), (size, have)
            read(reader, stream[have:], _whole)
            assert not reader.partial(), (size, have)


def test_a_large_packet_does_not_stay_in_memory_once_it_was_handled() -> None:
    reader = Reader(16384, 128)
    packets, end = read(reader, publish(b"t", b"x" * 16000), _whole)
    assert (len(packets), end) == (1, "whole")
    assert len(reader.data) <= 128


def test_a_buffer_that_was_made_larger_stays_for_what_comes() -> None:
    reader = Reader(1000, 128)
    stream = publish(b"t", b"x" * 300)
    read(reader, stream, _whole)
    larger = reader.data
    assert len(larger) > 300
    read(reader, stream, _whole)
    assert reader.data is larger


def test_after_a_reset_nothing_is_left_of_the_old_connection() -> None:
    for begun in (
        b"\x30",
        publish(b"t", b"x" * 300)[:200],
        publish(b"t", b"x" * 5000)[:200],
        b"\xf0\0",
    ):
        reader = Reader(1000, 128)
        read(reader, begun, _whole)
        reader.reset()
        assert not reader.partial()
        assert read(reader, packet(0x20, b"\0\0"), _one) == ([(0x20, b"\0\0", 0)], "whole")
