"""Packet ids, the window, and the keep-alive."""

from securemqtt.session import KeepAlive, Window


def test_ids_wrap_from_65535_to_1_and_never_are_0() -> None:
    window = Window(10, first_id=65534)
    assert [window.add(name) for name in "abcd"] == [65534, 65535, 1, 2]


def test_ids_in_use_are_skipped() -> None:
    window = Window(10, first_id=65535)
    assert [window.add(name) for name in "abc"] == [65535, 1, 2]
    window.remove(1)
    seen = bytearray(65536)
    for _ in range(2 * 65533):
        packet_id = window.add("x", counts=False)
        seen[packet_id] += 1
        window.remove(packet_id)
    assert [packet_id for packet_id in range(65536) if seen[packet_id] != 2] == [0, 2, 65535]
    assert [window.find(2), window.find(65535)] == ["c", "a"]


def test_the_window_has_room_for_so_many_messages_and_any_number_of_requests() -> None:
    window = Window(2)
    assert window.room() == 2
    first = window.add("a")
    window.add("filter", counts=False)
    window.add("b")
    assert window.room() == 0
    window.remove(first)
    assert window.room() == 1


def test_what_is_in_flight_is_found_by_its_id_and_goes_out_again_in_its_order() -> None:
    window = Window(5, first_id=65533)
    ids = [window.add(name) for name in "abcde"]
    window.remove(ids[1])
    assert [window.find(packet_id) for packet_id in window.unacknowledged()] == ["a", "c", "d", "e"]
    assert window.find(ids[1]) is None
    assert window.find(12345) is None


def test_requests_are_given_up_with_their_connection() -> None:
    window = Window(5)
    window.add("a")
    request = window.add("filter", counts=False)
    window.add("b")
    assert [window.find(packet_id) for packet_id in window.unacknowledged()] == ["a", "b"]
    assert window.find(request) is None


def test_a_quiet_connection_is_pinged_after_one_keep_alive() -> None:
    keep_alive = KeepAlive(10000, 0)
    assert keep_alive.due(0) == 10000
    assert keep_alive.due(9999) == 1
    assert keep_alive.due(10000) == 0
    assert keep_alive.due(10001) == 4999


def test_one_ping_is_enough_for_one_silence() -> None:
    keep_alive = KeepAlive(10000, 0)
    pings = sum(keep_alive.due(now) == 0 for now in range(0, 15000, 7))
    assert pings == 1
    assert keep_alive.due(14999) == 1
    assert keep_alive.due(15000) < 0


def test_who_sends_all_the_time_is_pinged_too_since_an_answer_must_come() -> None:
    keep_alive = KeepAlive(10000, 0)
    for now in range(0, 10000, 100):
        keep_alive.sent_ms = now
        assert keep_alive.due(now) > 0
    assert keep_alive.due(10000) == 0


def test_who_receives_all_the_time_pings_too_since_the_broker_counts_what_we_send() -> None:
    keep_alive = KeepAlive(10000, 0)
    for now in range(0, 10000, 100):
        keep_alive.received_ms = now
        assert keep_alive.due(now) > 0
    assert keep_alive.due(10000) == 0
    assert keep_alive.due(10001) > 0


def test_an_answer_within_the_same_millisecond_is_an_answer() -> None:
    keep_alive = KeepAlive(10000, 0)
    for now in range(10000, 100000, 10000):
        assert keep_alive.due(now) == 0
        keep_alive.received_ms = now


def test_a_silent_peer_counts_as_gone_after_one_and_a_half_keep_alives() -> None:
    keep_alive = KeepAlive(5001, 0)
    keep_alive.received_ms = 1000
    keep_alive.sent_ms = 2000
    assert keep_alive.due(1000 + 7500) >= 0
    assert keep_alive.due(1000 + 7502) < 0


def test_no_keep_alive_means_no_ping_and_no_end() -> None:
    keep_alive = KeepAlive(0, 0)
    assert keep_alive.due(0) > 0
    assert keep_alive.due(1 << 40) > 0
