"""The bounded queue: order, bounds, what happens when it is full, expiry."""

from securemqtt.messages import Delivery
from securemqtt.outbox.memory import Outbox


def _delivery(text: str, expires_ms: "int | None" = None) -> Delivery:
    return Delivery("t", text.encode(), 1, False, expires_ms)


def _taken(outbox: Outbox, now_ms: int = 0) -> "list[str]":
    texts = []
    while True:
        delivery = outbox.take(now_ms)
        if delivery is None:
            return texts
        texts.append(delivery.payload.decode())


def test_messages_leave_in_the_order_they_came() -> None:
    outbox = Outbox(10, 10000)
    for text in "abc":
        assert outbox.put(_delivery(text))
    assert outbox.take(0).payload == b"a"
    assert outbox.put(_delivery("d"))
    assert _taken(outbox) == ["b", "c", "d"]
    assert outbox.take(0) is None


def test_a_queue_that_ran_empty_starts_again() -> None:
    outbox = Outbox(10, 10000)
    for text in "abc":
        assert outbox.put(_delivery(text))
        assert _taken(outbox) == [text]
    assert outbox.head is None


def test_a_message_that_has_left_is_not_kept() -> None:
    outbox = Outbox(10, 10000)
    first, second, third = _delivery("a"), _delivery("b", 100), _delivery("c")
    assert outbox.put(first) and outbox.put(second) and outbox.put(third)
    assert _taken(outbox, 100) == ["a", "c"]
    assert outbox.head is None and outbox._tail is None
    # Nor does one that the program keeps keep those that were behind it.
    assert (first.next, second.next, third.next) == (None, None, None)


def test_what_is_put_back_is_the_first_again() -> None:
    outbox = Outbox(10, 10000)
    for text in "ab":
        assert outbox.put(_delivery(text))
    outbox.put_back(outbox.take(0))
    assert _taken(outbox) == ["a", "b"]
    assert outbox.put(_delivery("c"))
    outbox.put_back(outbox.take(0))  # the only one
    assert outbox.put(_delivery("d"))
    assert _taken(outbox) == ["c", "d"]
    assert outbox.count == 4


def test_what_is_in_flight_counts_until_it_is_forgotten() -> None:
    outbox = Outbox(2, 10000)
    first, second = _delivery("a"), _delivery("b")
    assert outbox.put(first) and outbox.put(second)
    outbox.take(0)
    assert not outbox.put(_delivery("c"))
    outbox.forget(first)
    assert outbox.put(_delivery("c"))
    assert outbox.count == 2


def test_bytes_are_bounded_too() -> None:
    size = Outbox.size(_delivery("12345"))
    outbox = Outbox(100, 3 * size)
    assert [outbox.put(_delivery("12345")) is not None for _ in range(4)] == [
        True,
        True,
        True,
        False,
    ]
    assert outbox.bytes == 3 * size


def test_what_can_never_fit_is_refused_by_every_policy() -> None:
    for when_full in ("refuse", "drop_oldest", "drop_newest"):
        outbox = Outbox(10, 300, when_full)
        assert outbox.put(_delivery("a"))
        large = _delivery("x" * 300)
        assert not outbox.put(large)
        assert not large.dropped
        assert (outbox.count, outbox.dropped) == (1, 0)
        assert _taken(outbox) == ["a"]


def test_what_just_fits_is_taken() -> None:
    outbox = Outbox(10, Outbox.size(_delivery("12345")))
    assert not outbox.put(_delivery("123456"))
    assert outbox.put(_delivery("12345"))


def test_the_oldest_of_those_waiting_gives_way() -> None:
    outbox = Outbox(3, 10000, "drop_oldest")
    deliveries = [_delivery(text) for text in "abcde"]
    for delivery in deliveries[:3]:
        outbox.put(delivery)
    assert outbox.take(0) is deliveries[0]
    for delivery in deliveries[3:]:
        assert outbox.put(delivery)
    assert [delivery.dropped for delivery in deliveries] == [False, True, True, False, False]
    assert (outbox.count, outbox.dropped) == (3, 2)
    assert _taken(outbox) == ["d", "e"]


def test_what_is_in_flight_never_gives_way() -> None:
    outbox = Outbox(2, 10000, "drop_oldest")
    first, second = _delivery("a"), _delivery("b")
    outbox.put(first)
    outbox.put(second)
    _taken(outbox)
    assert not outbox.put(_delivery("c"))
    assert (first.dropped, second.dropped, outbox.dropped) == (False, False, 0)


def test_as_many_of_the_oldest_give_way_as_the_bytes_need() -> None:
    outbox = Outbox(100, 3 * Outbox.size(_delivery("")), "drop_oldest")
    for _ in range(3):
        outbox.put(_delivery(""))
    assert outbox.put(_delivery("x" * Outbox.size(_delivery(""))))
    assert (outbox.count, outbox.dropped) == (2, 2)


def test_the_newest_gives_way() -> None:
    outbox = Outbox(2, 10000, "drop_newest")
    deliveries = [_delivery(text) for text in "abc"]
    assert [outbox.put(delivery) for delivery in deliveries] == deliveries
    assert [delivery.dropped for delivery in deliveries] == [False, False, True]
    assert (outbox.count, outbox.dropped) == (2, 1)
    assert _taken(outbox) == ["a", "b"]


def test_what_expired_is_passed_over_and_counted() -> None:
    outbox = Outbox(10, 10000)
    deliveries = [_delivery("a", 100), _delivery("b"), _delivery("c", 101), _delivery("d", 100)]
    for delivery in deliveries:
        outbox.put(delivery)
    assert _taken(outbox, 100) == ["b", "c"]
    assert [delivery.dropped for delivery in deliveries] == [True, False, False, True]
    assert (outbox.count, outbox.expired) == (2, 2)


def test_what_is_put_back_stays_before_what_comes_later_though_those_behind_it_have_expired() -> (
    None
):
    outbox = Outbox(10, 10000)
    outbox.put(_delivery("a"))
    outbox.put(_delivery("b", 100))
    first = outbox.take(0)
    assert outbox.take(100) is None
    outbox.put_back(first)
    outbox.put(_delivery("c"))
    assert _taken(outbox, 100) == ["a", "c"]


def test_what_has_expired_makes_room_though_it_took_the_place_of_another() -> None:
    outbox = Outbox(2, 10000)
    first = _delivery("a", 100)
    assert outbox.put(first, True)
    assert outbox.put(Delivery("u", b"b", 1, False))
    assert not outbox.put(_delivery("c"), False, 99)
    assert outbox.put(_delivery("c"), False, 100)
    assert first.dropped
    assert _taken(outbox, 100) == ["b", "c"]


def test_what_expires_first_makes_room_wherever_it_waits() -> None:
    for expiries_ms in ((100, 200), (200, 100)):
        outbox = Outbox(2, 10000)
        for expires_ms in expiries_ms:
            assert outbox.put(_delivery(str(expires_ms), expires_ms))
        assert not outbox.put(_delivery("new"), False, 99)
        assert outbox.put(_delivery("new"), False, 100)
        assert outbox.expired == 1
        assert not outbox.put(_delivery("newer"), False, 199)
        assert outbox.put(_delivery("newer"), False, 200)
        assert outbox.expired == 2
        assert _taken(outbox, 200) == ["new", "newer"]


def test_only_the_newest_of_a_topic_waits() -> None:
    outbox = Outbox(10, 10000)
    deliveries = [_delivery(text) for text in "abcd"]
    other = Delivery("u", b"other", 1, False)
    for delivery in (deliveries[0], deliveries[1], other, deliveries[2]):
        outbox.put(delivery)
    outbox.take(0)  # what is in flight stays
    assert outbox.put(deliveries[3], True)
    assert [delivery.dropped for delivery in deliveries] == [False, True, True, False]
    assert (outbox.count, outbox.expired) == (3, 2)
    assert _taken(outbox) == ["other", "d"]


def test_all_forgotten_is_empty() -> None:
    outbox = Outbox(10, 10000)
    deliveries = [_delivery("x" * n) for n in range(5)]
    for delivery in deliveries:
        outbox.put(delivery)
    _taken(outbox)
    for delivery in deliveries:
        outbox.forget(delivery)
    assert (outbox.count, outbox.bytes) == (0, 0)
