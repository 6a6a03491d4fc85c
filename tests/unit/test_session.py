"""Packet ids, the session, QoS 2 in it, and the keep-alive."""

from securemqtt.protocol.session import Session
from support.interpreters.either import raised


def test_ids_wrap_from_65535_to_1_and_never_are_0() -> None:
    session = Session(10, first_id=65534)
    assert [session.add(name) for name in "abcd"] == [65534, 65535, 1, 2]


def test_ids_begin_with_1_unless_one_is_given() -> None:
    assert Session(1).add("a") == 1


def test_ids_in_use_are_skipped() -> None:
    session = Session(10, first_id=65535)
    assert [session.add(name) for name in "abc"] == [65535, 1, 2]
    session.remove(1)
    seen = bytearray(65536)
    for _ in range(2 * 65533):
        packet_id = session.add("x", counts=False)
        seen[packet_id] += 1
        session.remove(packet_id)
    assert [packet_id for packet_id in range(65536) if seen[packet_id] != 2] == [0, 2, 65535]
    assert [session.unanswered.get(2), session.unanswered.get(65535)] == ["c", "a"]


def test_the_session_has_room_for_so_many_messages_and_any_number_of_requests() -> None:
    session = Session(2)
    assert session.room() == 2
    first = session.add("a")
    session.add("filter", counts=False)
    session.add("b")
    assert session.room() == 0
    session.remove(first)
    assert session.room() == 1


def test_what_is_in_flight_is_found_by_its_id_and_goes_out_again_in_its_order() -> None:
    session = Session(5, first_id=65533)
    ids = [session.add(name) for name in "abcde"]
    session.remove(ids[1])
    assert [session.unanswered.get(packet_id) for packet_id in session.unacknowledged()] == [
        "a",
        "c",
        "d",
        "e",
    ]
    assert session.unanswered.get(ids[1]) is None
    assert session.unanswered.get(12345) is None


def test_requests_are_given_up_with_their_connection() -> None:
    session = Session(5)
    session.add("a")
    request = session.add("filter", counts=False)
    session.add("b")
    assert session.accepted(1, False)
    in_flight = [session.unanswered.get(packet_id) for packet_id in session.unacknowledged()]
    assert in_flight == ["a", "b"]
    assert request not in session.unanswered


def test_the_id_of_what_was_given_up_is_reserved_as_long_as_the_session() -> None:
    session = Session(5)
    given_up, other = session.add("a"), session.add("b")
    session.withhold(given_up)
    session.withhold(other)
    session.give_up(given_up)
    assert session.accepted(1, False)
    assert session.withheld == [given_up, other]
    assert session.find(given_up) is None
    assert not session.accepted(0, False)
    assert session.withheld == [other]
    assert session.unanswered == {other: "b"}


def test_a_quiet_connection_is_pinged_after_one_keep_alive() -> None:
    session = Session(1, keep_alive_ms=10000)
    assert session.due(0) == 10000
    assert session.due(9999) == 1
    assert session.due(10000) == 0
    assert session.due(10001) == 4999


def test_one_ping_is_enough_for_one_silence() -> None:
    session = Session(1, keep_alive_ms=10000)
    pings = sum(session.due(now) == 0 for now in range(0, 15000, 7))
    assert pings == 1
    assert session.due(14999) == 1
    assert session.due(15000) < 0


def test_who_sends_all_the_time_is_pinged_too_since_an_answer_must_come() -> None:
    session = Session(1, keep_alive_ms=10000)
    for now in range(0, 10000, 100):
        session.sent_ms = now
        assert session.due(now) > 0
    assert session.due(10000) == 0


def test_who_receives_all_the_time_pings_too_since_the_broker_counts_what_we_send() -> None:
    session = Session(1, keep_alive_ms=10000)
    for now in range(0, 10000, 100):
        session.received_ms = now
        assert session.due(now) > 0
    assert session.due(10000) == 0
    assert session.due(10001) > 0


def test_an_answer_within_the_same_millisecond_is_an_answer() -> None:
    session = Session(1, keep_alive_ms=10000)
    for now in range(10000, 100000, 10000):
        assert session.due(now) == 0
        session.received_ms = now


def test_a_silent_peer_counts_as_gone_after_one_and_a_half_keep_alives() -> None:
    session = Session(1, keep_alive_ms=5001)
    session.begin(1000)
    session.sent_ms = 2000
    for now in range(1000, 1000 + 7500, 500):
        assert session.due(now) >= 0
    assert session.due(1000 + 7500) >= 0
    assert session.due(1000 + 7502) < 0


def test_a_loop_that_was_away_asks_before_it_judges_once_in_a_silence() -> None:
    session = Session(1, keep_alive_ms=10000)
    session.begin(0)
    assert session.due(60000) == 0  # a ping
    assert session.due(60001) == 4999
    assert session.due(64999) == 1
    assert session.due(65000) < 0
    session.received_ms = 64000  # an answer, within its time
    assert session.due(65001) > 0
    assert session.due(90000) == 0  # away again, after something was heard
    assert session.due(94000) == 1000
    assert session.due(120000) < 0  # away once more, and nothing was heard in between


def test_a_loop_that_was_away_and_has_heard_something_since_judges_as_ever() -> None:
    session = Session(1, keep_alive_ms=10000)
    session.begin(0)
    session.received_ms = 29000
    assert session.due(30000) == 0  # since we have said nothing ourselves
    assert [session.due(now) > 0 for now in (36000, 43999)] == [True, True]
    assert session.due(44000) < 0


def test_an_answer_confirms_the_acknowledgements_that_went_before_its_question() -> None:
    session = Session(5, 1, keep_alive_ms=10000)
    session.begin(0)
    early = session.add("before any")
    assert [session.answered(), session.answered()] == [1, 2]
    first = session.add("after two")
    session.answered()
    second = session.add("after three")
    session.remove(early)
    session.remove(second)
    assert session.confirmed == 0  # one question at a time is followed
    session.remove(first)
    assert session.confirmed == 2
    assert session.due(10000) == 0
    session.pong()
    assert session.confirmed == 3
    session.answered()
    session.add("on a connection that is lost")
    session.begin(20000)
    session.pong()
    assert session.confirmed == 3


def test_a_session_counts_as_kept_only_where_it_can_be_ours() -> None:
    session = Session(1)
    assert session.accepted(1, False) and not session.unasked
    assert not session.accepted(0, False)
    assert not session.accepted(1, True) and session.unasked
    session.doubtful = True
    assert not session.accepted(1, False)
    assert session.accepted(1, False)
    raised("MalformedPacket", session.accepted, 2, False)


def test_a_packet_id_of_0_is_the_peers_mistake() -> None:
    session = Session(1, 7)
    session.add("one")
    assert session.find(7) == "one" and session.find(8) is None
    raised("MalformedPacket", session.find, 0)


def test_no_keep_alive_means_no_ping_and_no_end() -> None:
    for session in (Session(1), Session(1, keep_alive_ms=0)):
        assert session.due(0) > 0
        assert session.due(1 << 40) > 0


class _Full(dict):
    """A table for whose next entry a board has no memory."""

    def __setitem__(self, key: int, value: object) -> None:
        raise MemoryError


def test_where_memory_runs_out_nothing_is_noted() -> None:
    for counts in (True, False):
        session = Session(2, 1)
        first = session.add("first")
        noted = session.unanswered
        session.unanswered = _Full()
        raised("MemoryError", session.add, "one", counts)
        session.unanswered = noted
        assert session.room() == 1
        assert session.unacknowledged() == [first]


def test_what_is_withheld_keeps_its_id_and_leaves_the_window() -> None:
    session = Session(2)
    first, second = session.add("a"), session.add("b")
    assert session.room() == 0
    session.withhold(first)
    assert session.room() == 1 and session.withheld == [first]
    assert session.unacknowledged() == [second] and first in session.unanswered
    assert not session.idle()
    session.remove(second)
    assert session.idle() and session.add("c") not in (first,)
    session.restore(first)
    assert session.withheld == [] and session.room() == 0
    session.withhold(first)
    session.remove(first)
    assert session.withheld == [] and first not in session.unanswered


def test_a_ping_is_asked_for_once_until_something_is_heard() -> None:
    session = Session(2, 1, 10000)
    session.sent_ms = session.received_ms = 1000
    assert session.ask(1001)
    assert not session.ask(1002)
    assert session.due(11000) > 0  # none is due beside the one that is on its way
    session.received_ms = 1003
    assert session.ask(1004)
