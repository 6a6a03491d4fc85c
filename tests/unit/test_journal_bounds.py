"""The bounds of a journal: memory that holds less than there is, or ends; a journal that is full.

Each restart is without a farewell, as by a kill.
"""

import sys

from securemqtt.messages import Delivery
from securemqtt.outbox.journal import blocks
from securemqtt.outbox.memory import Outbox
from support.interpreters.either import MICROPYTHON, raised
from support.models.journals import Device, filled, texts

PAST_S = 10


def in_memory(device: Device) -> int:
    """Count the messages that wait in memory."""
    count = 0
    delivery = device.outbox.head
    while delivery is not None:
        count += 1
        delivery = delivery.next
    return count


def test_a_backlog_larger_than_memory_is_read_back_in_order() -> None:
    device = Device("o", outbox_messages=7)
    results = [device.put(text) for text in texts(100)]
    assert device.outbox.count == 100
    assert not any(result.acknowledged or result.dropped for result in results)
    seen = []
    while device.outbox.count:
        assert in_memory(device) <= 7
        delivery = device.take()
        seen.append(delivery.payload.decode())
        device.forget(delivery)
        delivery.acknowledged = True
        if len(seen) % 20 == 0 and len(seen) < 80:
            results.append(device.put("later " + str(len(seen))))
    assert seen == texts(100) + ["later " + str(count) for count in range(20, 80, 20)]
    assert all(result.acknowledged and not result.dropped for result in results)


def test_a_backlog_larger_than_memory_survives() -> None:
    device = filled("o", 100, outbox_messages=5)
    device = device.restart()
    assert device.outbox.count == 100
    device.put("one more")
    assert device.restart().drain() == texts(100, "one more")


def test_what_is_left_to_the_storage_tells_of_its_fate() -> None:
    device = Device("o", outbox_messages=2)
    _, _, left, later = [device.put(text) for text in "abcd"]
    assert (left.topic, left.payload, left.qos) == ("t", b"c", 1)
    for _ in range(3):
        assert not left.acknowledged
        device.forget(device.take())
    assert (left.acknowledged, left.dropped, later.acknowledged) == (True, False, False)
    device = Device("stale", outbox_messages=1)
    device.put("a")
    left = device.put("b", expires_s=-PAST_S)
    assert device.drain() == ["a"]
    assert (left.acknowledged, left.dropped) == (False, True)


def test_what_was_refused_or_comes_later_changes_nothing_about_what_is_left() -> None:
    device = Device("o", outbox_messages=1)
    device.put("a")
    left = device.put("b")
    assert device.put("x" * 20000) is None
    device.outbox.dropped += 1  # as the client counts what was refused
    assert device.drain() == ["a", "b"]
    assert (left.acknowledged, left.dropped) == (True, False)
    device.put("c", expires_s=-PAST_S)
    assert device.drain() == []
    assert (left.acknowledged, left.dropped) == (True, False)


def test_what_is_left_to_the_storage_is_acknowledged_before_what_waits_longer() -> None:
    device = Device("o", outbox_messages=1)
    device.put("a")
    left = device.put("b")
    first, second = device.take(), device.take()
    device.forget(second)
    assert left.acknowledged
    device.forget(first)


def _no_memory(*arguments: object) -> None:
    raise MemoryError


def test_where_there_is_no_memory_to_read_back_nothing_goes_under() -> None:
    device = filled("o", 5, outbox_messages=1)
    append = device.outbox.append
    device.outbox.append = _no_memory
    assert device.take() is None and device.take() is None
    device.outbox.append = append
    assert device.drain() == texts(5)
    assert device.outbox.count == 0


class _NoMemory(list):
    """A list for whose next entry a board has no memory."""

    def append(self, entry: object) -> None:
        raise MemoryError


def test_where_there_is_no_memory_to_note_what_is_in_flight_nothing_goes_under() -> None:
    device = filled("o", 3)
    in_flight = device.outbox.journal.in_flight
    device.outbox.journal.in_flight = _NoMemory()
    for _ in range(2):
        raised("MemoryError", device.take)
    device.outbox.journal.in_flight = in_flight
    assert device.drain() == texts(3)


def test_where_memory_ends_while_some_is_read_back_nothing_goes_under() -> None:
    device = Device("o", outbox_messages=1)
    assert device.put("first")
    for text in texts(20):
        assert device.put(text)
    device.outbox.max_messages = 10
    append = device.outbox.append

    def little_memory(delivery: Delivery, size: int) -> None:
        append(delivery, size)
        if device.outbox.held % 3 == 0:
            device.outbox.append = _no_memory

    seen = []
    while device.outbox.count:
        device.outbox.append = little_memory
        delivery = device.take()
        seen.append(delivery.payload.decode())
        device.forget(delivery)
    assert seen[0] == "first" and seen[1:] == texts(20)


def test_a_board_keeps_what_starts_and_compacts_a_journal_only_while_it_does() -> None:
    device = Device("o", outbox_journal_bytes=32768)
    for number in range(600):  # so that there is no room without compaction
        assert device.put("value " + str(number) + "." * 80, "state", True)
    assert device.restart().drain()
    resident = [name for name in sys.modules if name.startswith("securemqtt.outbox.")]
    assert ("securemqtt.outbox.upkeep" not in resident) == MICROPYTHON


def test_state_that_changes_for_ever_does_not_fill_the_journal() -> None:
    for messages in (1000, 4):
        device = Device("o" + str(messages), outbox_journal_bytes=32768, outbox_messages=messages)
        for text in texts(10):
            device.put(text)
        for _ in range(3):
            assert device.take()  # what is in flight is needed, too
        for number in range(1500):
            for state in ("state/a", "state/b"):
                assert device.put("value " + str(number), state, True)
            assert device.taken_bytes() <= 32768
        device = device.restart()
        assert device.drain() == texts(10, "value 1499", "value 1499")


def test_a_refused_newest_of_a_topic_does_not_leave_the_queue_empty() -> None:
    device = Device("o", outbox_journal_bytes=32768, outbox_messages=1)
    device.put("old", "state", True)
    count = _fill(device)
    assert device.put("new" + "." * 80, "state", True) is None
    assert len(device.drain()) == count


def test_what_expires_does_not_fill_the_journal() -> None:
    device = Device("o", outbox_journal_bytes=32768, outbox_messages=5)
    for text in texts(10):
        device.put(text)
    for number in range(1500):
        assert device.put("x" * 50, expires_s=-PAST_S), number
    assert device.taken_bytes() <= 32768
    assert device.drain() == texts(10)
    assert (device.outbox.expired, device.counter("journal_damaged")) == (1500, 0)


def test_a_long_row_of_what_expired_on_the_storage_is_passed_over_and_counted() -> None:
    device = Device("o", outbox_messages=1)
    device.put("first")
    for number in range(200):
        device.put(str(number), expires_s=-PAST_S)
    device.put("last")
    assert device.drain() == ["first", "last"]
    assert (device.outbox.expired, device.outbox.count) == (200, 0)
    device.outbox.release()
    assert device.segments() == []


def _fill(device: Device) -> int:
    """Publish until it is refused, or something is dropped; return how many were accepted."""
    count = 0
    while device.put("message " + str(count) + "." * 80) and not device.outbox.dropped:
        count += 1
        assert count < 1000
    return count


def test_a_full_journal_refuses_and_takes_more_as_it_empties() -> None:
    device = Device("o", outbox_journal_bytes=32768, outbox_messages=10)
    count = _fill(device)
    assert count > 150 and device.outbox.count == count
    assert device.taken_bytes() <= 32768
    device = device.restart()
    assert device.put("x" * 80) is None
    for _ in range(count // 2):
        device.forget(device.take())
    assert device.put("last" + "." * 80)
    assert [text.split(".")[0] for text in device.restart().drain()][-2:] == [
        "message " + str(count - 1),
        "last",
    ]


def test_a_full_journal_drops_the_newest() -> None:
    device = Device("o", outbox_journal_bytes=32768, outbox_full="drop_newest")
    count = _fill(device)
    dropped = device.put("y" * 80)
    assert dropped.dropped and device.outbox.count == count
    assert len(device.restart().drain()) == count


def test_a_full_journal_drops_the_oldest_but_not_what_is_in_flight() -> None:
    for messages in (1000, 10):
        device = Device(
            "o" + str(messages),
            outbox_journal_bytes=32768,
            outbox_messages=messages,
            outbox_full="drop_oldest",
        )
        flying = []
        for number in range(1000):
            assert device.put(f"{number:04}" + "." * 80)
            if len(flying) < 5:
                flying.append(device.take())
            assert device.taken_bytes() <= 32768
        assert device.outbox.dropped + device.outbox.count == 1000
        for delivery in flying:
            device.forget(delivery)
        left = [int(text[:4]) for text in device.drain()]
        assert left == list(range(left[0], 1000)) and len(left) == 995 - device.outbox.dropped


def test_a_full_journal_drops_no_more_of_the_oldest_than_it_must() -> None:
    device = Device("o", outbox_journal_bytes=32768, outbox_full="drop_oldest")
    count = _fill(device)
    in_a_segment = 4096 // (len("message 000" + "." * 80) + 22) + 1
    assert 0 < device.outbox.dropped <= in_a_segment
    assert device.outbox.count == count + 1 - device.outbox.dropped


def test_what_can_never_fit_is_refused() -> None:
    device = Device("o", outbox_journal_bytes=32768)
    assert device.put("x" * 8192) is None
    assert device.put("x" * 8000)
    assert device.put("y")
    assert device.restart().drain() == ["x" * 8000, "y"]


def test_what_just_fits_is_taken() -> None:
    size = Outbox.size(Delivery("t", b"12345", 1, False))
    device = Device("o", outbox_bytes=size)
    assert device.put("123456") is None
    assert device.put("12345")


def test_a_file_takes_whole_blocks() -> None:
    sizes = (0, 1, 4095, 4096, 4097, 8192, 8193)
    assert [blocks(size) for size in sizes] == [0, 1, 1, 1, 2, 2, 3]


def test_what_is_parked_and_has_no_room_in_memory_counts_and_gives_way_to_a_newer_state() -> None:
    device = Device("o", outbox_bytes=2000)
    for number in range(3):
        device.put("x" * 1200, "t" + str(number))
        delivery = device.take()
        device.outbox.note(delivery, 7, 0, 600000)
    device.outbox.sync()
    device = device.restart()
    outbox = device.outbox
    assert outbox.count == outbox.parking.parked.count == 3
    assert outbox.held == 1
    device.put("newer", "t2", newest_only=True)
    assert outbox.parking.parked.count == 2 and outbox.expired == 1
    assert device.drain() == ["newer"]
    outbox.sync()
    outbox = device.restart().outbox
    assert outbox.count == outbox.parking.parked.count == 2
