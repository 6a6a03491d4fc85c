"""The journal behind a durable outbox: restart, order, bounds, damage, room.

Each restart is without a farewell, as by a kill.
"""

import os
import sys

from securemqtt import log_to
from securemqtt.messages import Delivery
from securemqtt.outbox.journal import blocks
from securemqtt.outbox.memory import Outbox
from securemqtt.platform import now_ms
from support.interpreters.either import (
    MICROPYTHON,
    directory,
    for_seeds,
    micropython_only,
    raised,
    scratch,
    write,
)
from support.models.journals import Device, filled, recover, texts
from support.speed import seconds

PAST_S = 10


def read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def in_memory(device: Device) -> int:
    """Count the messages that wait in memory."""
    count = 0
    delivery = device.outbox.head
    while delivery is not None:
        count += 1
        delivery = delivery.next
    return count


def test_what_was_put_is_there_after_a_kill_in_its_order() -> None:
    device = filled("o", 50)
    assert device.restart().drain() == texts(50)


def test_a_message_comes_back_as_it_was() -> None:
    device = Device("o")
    given = Delivery("devices/ü/temperature", bytes(range(256)), 1, True)
    device.offer(given)
    empty = Delivery("e", b"", 2, False)
    device.offer(empty)
    device = device.restart()
    for wanted in (given, empty):
        got = device.take()
        for name in ("topic", "payload", "qos", "retain", "expires_ms"):
            assert getattr(got, name) == getattr(wanted, name), name


def test_what_is_acknowledged_leaves_nothing_behind() -> None:
    device = filled("o", 120)
    assert device.drain() == texts(120)
    device.outbox.sync()
    device = device.restart()
    assert device.drain() == []
    assert device.segments() == []


def test_what_was_in_flight_comes_again() -> None:
    device = filled("o", 10)
    for _ in range(4):
        device.take()
    assert device.restart().drain() == texts(10)


def test_what_is_put_back_is_the_first_again_here_and_after_a_restart() -> None:
    for taken_before in (0, 3):
        device = filled(f"o{taken_before}", 10)
        for _ in range(taken_before):
            device.outbox.forget(device.take())
        device.outbox.put_back(device.take())
        device.outbox.sync()  # the low-water mark is written here
        assert device.restart().drain() == texts(10)[taken_before:]


def test_what_is_put_back_is_taken_and_acknowledged_as_ever() -> None:
    device = filled("o", 3)
    device.outbox.put_back(device.take())
    assert device.drain() == texts(3)
    device.outbox.sync()
    assert device.restart().segments() == []


def test_what_is_put_back_before_it_is_on_the_storage_is_written_there() -> None:
    device = Device("o", outbox_fsync="interval", outbox_interval_s=3600)
    device.outbox.write_late = True  # as flash has it
    device.put("a")
    assert device.segments() == []
    device.outbox.put_back(device.take())
    device.outbox.sync()
    assert device.restart().drain() == ["a"]
    assert device.drain() == ["a"]
    assert device.outbox.journal.in_flight == []


def test_acknowledgements_are_remembered_once_synced() -> None:
    device = filled("o", 30)
    for _ in range(12):
        device.forget(device.take())
    device.outbox.sync()
    device = device.restart()
    assert device.outbox.count == 18
    assert device.drain() == texts(18, start=12)


def test_acknowledgements_not_synced_cost_a_second_delivery_at_most() -> None:
    device = filled("o", 150, outbox_journal_bytes=1 << 20)
    for _ in range(140):
        device.forget(device.take())
    again = device.restart().drain()
    assert again[-10:] == texts(10, start=140)
    assert len(again) <= 110


def test_a_start_and_a_sync_alone_hide_nothing() -> None:
    for acknowledged in (0, 1, 2):
        device = filled(f"o{acknowledged}", 4)
        for _ in range(acknowledged):
            device.forget(device.take())
        device.outbox.sync()
        for _ in range(3):
            device = device.restart()
            device.outbox.sync()
        assert device.drain() == texts(4 - acknowledged, start=acknowledged)


def test_a_sync_with_nothing_new_writes_nothing() -> None:
    device = filled("o", 4)
    device.forget(device.take())
    device.outbox.sync()
    written = device.counter("journal_bytes")
    assert written > 4 * len("message 0")
    device.outbox.sync()
    assert device.counter("journal_bytes") == written


def test_what_expired_unsent_is_not_sent_after_a_restart_that_cannot_tell() -> None:
    device = Device("o", clock_floor=1 << 35)  # so that no record says when it expires
    device.put("stale", expires_s=-PAST_S)
    assert device.take() is None
    device.outbox.sync()
    assert device.restart().drain() == []


def test_acknowledgements_out_of_order_lose_nothing() -> None:
    device = filled("o", 6)
    taken = [device.take() for _ in range(6)]
    for index in (1, 2, 4):
        device.forget(taken[index])
    device.outbox.sync()
    again = device.restart().drain()
    for text in ("message 0", "message 3", "message 5"):
        assert text in again
    assert again == sorted(again)


def test_a_low_water_mark_never_hides_what_is_put_after_a_restart() -> None:
    device = filled("o", 3)
    for round_ in range(5):
        while device.outbox.count:
            device.forget(device.take())
        device.outbox.sync()
        device = device.restart()
        assert device.put("new " + str(round_))
        device = device.restart()
        assert device.drain(False) == ["new " + str(round_)]
        device = device.restart()


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


def test_what_was_damaged_on_the_storage_does_not_count_as_acknowledged() -> None:
    device = Device("o", outbox_messages=1)
    device.put("a")
    left = device.put("b")
    path = device.segments()[0]
    damaged = bytearray(read(path))
    damaged[-5] ^= 1
    write(path, damaged)
    assert device.drain() == ["a"]
    assert (left.acknowledged, left.dropped) == (False, True)


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


def test_qos_0_is_not_written_unless_its_order_needs_it() -> None:
    device = Device("o", outbox_messages=2)
    device.put("a", qos=0)
    assert device.counter("journal_bytes") == 0
    for text in "bcd":
        device.put(text)
    device.put("e", qos=0)
    assert device.drain(False) == ["a", "b", "c", "d", "e"]
    device = device.restart()
    assert device.drain() == ["b", "c", "d"]
    assert device.counter("journal_damaged") == 0


def test_a_message_of_qos_0_costs_no_other_while_the_journal_has_room() -> None:
    device = filled("o", 3, outbox_messages=3, outbox_full="drop_oldest")
    device.put("d", qos=0)
    assert device.drain() == texts(3, "d")


def test_what_expired_meanwhile_is_not_sent_after_a_restart() -> None:
    device = Device("o")
    device.put("fresh", expires_s=1000)
    device.put("stale", expires_s=-PAST_S)
    device.put("timeless")
    device = device.restart()
    assert device.drain() == ["fresh", "timeless"]
    assert (device.outbox.count, device.outbox.expired) == (0, 1)


def test_what_expires_after_it_was_read_back_is_not_sent() -> None:
    device = Device("o", outbox_messages=1)
    device.put("a")
    device.put("b", expires_s=1000)
    device.forget(device.take())
    assert device.outbox.take(now_ms() + 990000) is not None
    device.outbox.sync()
    device = device.restart()
    assert device.outbox.count == 1
    assert device.outbox.take(now_ms() + 1010000) is None
    assert (device.outbox.expired, device.outbox.count) == (1, 0)


def test_what_expires_in_centuries_does_not_expire() -> None:
    device = Device("o")
    for lifetime_s in (1 << 31, 1 << 32, 1 << 33):
        assert device.put(str(lifetime_s), expires_s=lifetime_s).stored > 0
    assert len(device.restart().drain()) == 3


def test_without_a_plausible_clock_nothing_expires() -> None:
    device = Device("o", clock_floor=1 << 35)
    device.put("stale or not", expires_s=-PAST_S)
    assert device.restart().drain() == ["stale or not"]


def test_only_the_newest_of_a_topic_waits() -> None:
    device = Device("o")
    first = device.put("1", "state", True)
    device.put("a")
    device.put("2", "state", True)
    assert first.dropped
    device = device.restart()
    assert device.drain(False) == ["a", "2"]
    device = device.restart(outbox_messages=1)
    for text in ("3", "4", "5"):
        device.put(text, "state", True)
        device.put("other " + text)
    assert device.restart().drain() == ["a", "other 3", "other 4", "5", "other 5"]


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


def test_what_comes_after_the_last_segment_went_is_in_a_new_one() -> None:
    device = Device("o")
    device.rig.kept_bytes = 0  # as on flash
    large = "x" * 4000  # what is next has no room in its segment, and what comes after that has
    for text in (large, "b" * 200):
        device.put(text)
    device.take()
    device.forget(device.take())
    assert len(device.segments()) == 1
    assert device.put("c")
    device.outbox.sync()
    assert device.restart().drain() == [large, "c"]


def test_a_directory_that_is_not_there_is_made() -> None:
    device = Device("o", scratch() + "/made")
    assert device.put("a").stored > 0
    assert device.restart().drain() == ["a"]


def _put_back(device: Device, content: "bytes | bytearray") -> Device:
    """Start anew with this in the place of the only segment."""
    write(device.segments()[0], content)
    return device.restart()


def test_a_tail_torn_at_any_byte_costs_what_was_torn_only() -> None:
    device = filled("o", 3)
    whole = read(device.segments()[0])
    size = len(whole) // 3
    for length in range(len(whole)):
        torn = _put_back(device, whole[:length])
        assert torn.counter("journal_damaged") == (length % size > 0)
        torn.put("next")
        assert torn.drain(False) == texts(length // size, "next")
        assert torn.restart().drain() == texts(length // size, "next")


def test_a_flipped_bit_anywhere_costs_one_message_only() -> None:
    device = filled("o", 3)
    whole = read(device.segments()[0])
    size = len(whole) // 3
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        flipped = _put_back(device, damaged)
        assert flipped.drain(False) == [
            text for number, text in enumerate(texts(3)) if number != position // size
        ], position
        assert flipped.counter("journal_damaged") == 1


def test_rubbish_between_records_is_passed_over() -> None:
    device = filled("o", 2)
    whole = read(device.segments()[0])
    half = len(whole) // 2
    mark = whole[0]
    # A record torn by one byte would be whole again where the next begins with that very byte.
    torn = whole[: half - (1 if whole[half - 1] != mark else 2)]
    for rubbish in (bytes(5000), b"\xff" * 700, whole[:20], torn, whole[:2] * 600):
        assert _put_back(device, whole[:half] + rubbish + whole[half:]).drain() == texts(2)
    for size in (1, 2, 3, 510, 511, 512, 513, 514, 1022, 1023, 1024):  # as it is read in pieces
        for rubbish in (bytes((mark ^ 1,)) * size, bytes((mark,)) * size):
            assert _put_back(device, whole[:half] + rubbish + whole[half:]).drain() == texts(2)


def test_damage_after_the_start_is_counted_and_does_not_block() -> None:
    device = filled("o", 30, outbox_messages=3)
    path = device.segments()[0]
    damaged = bytearray(read(path))
    damaged[len(damaged) // 2] ^= 1
    write(path, damaged)
    seen = device.drain()
    assert len(seen) == 29 and seen == [text for text in texts(30) if text in seen]
    assert (device.outbox.count, device.counter("journal_damaged")) == (0, 1)
    device.outbox.sync()
    assert device.put("next") and device.restart().drain() == ["next"]


def test_a_segment_that_is_damaged_all_over_is_removed_once_that_is_known() -> None:
    device = Device("o", outbox_messages=1)
    large = "x" * 4060  # nothing else has room in its segment
    for text in ("a", large, "b"):
        device.put(text)
    path = device.segments()[1]
    write(path, bytes(len(read(path))))
    assert device.drain() == ["a", "b"]
    assert (device.counter("journal_damaged"), device.outbox.count) == (1, 0)
    assert path not in device.segments()


def test_what_cannot_be_read_now_is_there_after_the_next_start() -> None:
    device = Device("o", outbox_messages=1)
    large = "x" * 4060
    for text in ("a", large, "b"):
        device.put(text)
    path = device.segments()[1]
    os.rename(path, path + "-away")  # noqa: PTH104
    os.mkdir(path)  # noqa: PTH102  (nor can this be removed as a file)
    assert device.drain() == ["a", "b"]
    assert device.counter("journal_failures") == 1
    recover(device)
    for text in texts(3):
        assert device.put(text).stored > 0
    assert device.drain() == texts(3)
    device.outbox.sync()
    os.rmdir(path)  # noqa: PTH106
    os.rename(path + "-away", path)  # noqa: PTH104
    assert large in device.restart().drain()


def test_a_start_removes_what_a_broken_compaction_left() -> None:
    device = filled("o", 3)
    device.outbox.release()
    rubbish = device.segments()[0] + ".new"
    write(rubbish, b"torn")
    again = Device("o", device.directory)
    assert rubbish.rpartition("/")[2] not in os.listdir(device.directory)  # noqa: PTH208
    assert again.drain() == texts(3)
    again.outbox.release()


def test_the_last_segment_is_continued_after_a_restart() -> None:
    device = filled("o", 3).restart()
    assert device.put("d")
    assert len(device.segments()) == 1
    assert device.restart().drain() == texts(3, "d")


def test_no_payload_can_pass_for_a_record() -> None:
    device = Device("o")
    device.put("outer")
    forged = read(device.segments()[0]).replace(b"outer", b"inner")
    other = Device("other")
    other.offer(Delivery("t", forged * 3, 1, False))
    path = other.segments()[0]
    whole = bytearray(read(path))
    whole[2] ^= 1
    write(path, whole)
    assert other.restart().drain() == []


def test_other_files_in_the_directory_are_left_alone() -> None:
    """The outbox removes what it has made, and nothing else, whatever that is called."""
    names = (
        "notes.txt",
        "new",
        "new.new",
        "0123456789abcdef0123",
        "ffffffffffffffffffff.old",
        "x.new",
    )
    place = directory("o") + "/"
    for name in names:
        write(place + name, "mine")
    told = []
    log_to(lambda level, text: told.append(text))
    try:
        device = Device("o", outbox_journal_bytes=32768)
        for number in range(600):  # so many that it is compacted
            assert device.put("value " + str(number) + "." * 80, "state", True)
        device = device.restart()
    finally:
        log_to(None)
    assert [text[:5] for text in device.drain()] == ["value"]
    device.outbox.release()
    assert all(read(place + name) == b"mine" for name in names)
    assert any("0123456789abcdef0123 is none of the outbox's files" in text for text in told)


def test_a_directory_that_cannot_be_used_leaves_the_messages_in_memory() -> None:
    path = scratch() + "/o"
    write(path, "no directory")
    device = Device("o")
    assert type(device.last_error).__name__ == "OutboxNotDurable"
    assert path in str(device.last_error) and "What to do" in str(device.last_error)
    assert device.put("a").stored == 0
    assert device.counter("unstored") == 1
    assert device.drain() == ["a"]


def test_a_directory_that_cannot_be_read_at_the_start_is_read_before_anything_is_written() -> None:
    device = filled("o", 3)
    path = device.directory
    device.outbox.release()
    os.rename(path, path + "-away")  # noqa: PTH104
    write(path, "no directory")
    device = Device("o", path)
    assert device.put("in memory").stored == 0
    os.remove(path)  # noqa: PTH107
    os.rename(path + "-away", path)  # noqa: PTH104
    recover(device)
    # else what is on the storage would come behind it
    assert device.put("in memory, too").stored == 0
    assert device.drain() == ["in memory", "in memory, too"]
    assert device.put("d").stored > 0
    assert device.drain(False) == texts(3, "d")
    assert device.restart().drain() == texts(3, "d")


def test_what_a_broken_compaction_left_is_no_part_of_the_next() -> None:
    device = Device("o", outbox_journal_bytes=32768)
    rubbish = ""
    for number in range(600):
        assert device.put("value " + str(number) + "." * 80, "state", True)
        if number % 50 == 0:
            device.put(f"{number:04}")
            rubbish = device.segments()[0] + ".new"
            write(rubbish, b"torn" * 100)
    assert device.counter("journal_damaged") == 0
    assert [text[:4] for text in device.restart().drain()] == [
        f"{number:04}" for number in range(0, 600, 50)
    ] + ["valu"]


def test_segments_that_are_gone_already_are_no_failure() -> None:
    device = filled("o", 3)
    for path in device.segments():
        os.remove(path)  # noqa: PTH107
    device.drain()
    device.outbox.release()
    assert (device.counter("journal_failures"), device.outbox.count) == (0, 0)


def test_what_a_torn_write_left_is_nobody_elses_change() -> None:
    device = filled("o", 3)
    with open(device.segments()[0], "ab") as file:  # noqa: PTH123
        file.write(b"torn")
    device.outbox.release()
    device.outbox.resume()
    assert device.drain() == texts(3)


def test_an_outbox_that_was_left_can_be_taken_up_again() -> None:
    device = filled("o", 3)
    device.outbox.release()
    device.outbox.resume()
    device.put("d")
    assert device.drain(False) == texts(3, "d")
    assert device.restart().drain() == texts(3, "d")


def test_nothing_is_written_late_where_a_kill_would_lose_it() -> None:
    device = Device("o", outbox_fsync="interval", outbox_interval_s=3600)
    delivery = Delivery("t", b"x", 1, False)
    device.offer(delivery)
    assert (delivery.stored > 0) == (not MICROPYTHON)


@micropython_only
def test_on_flash_what_is_acknowledged_within_the_interval_is_never_written() -> None:
    device = Device("o", outbox_fsync="interval", outbox_interval_s=3600)
    deliveries = [Delivery("t", text.encode(), 1, False) for text in "abc"]
    for delivery in deliveries:
        device.offer(delivery)
    device.forget(device.take())
    flying = device.take()
    device.outbox.tick()
    assert device.counter("journal_bytes") == 0
    device.outbox.sync()
    assert flying.stored == 1 and device.counter("journal_bytes") > 0
    device.offer(Delivery("t", b"d", 1, False))
    assert device.restart().drain() == ["b", "c"]


@micropython_only  # elsewhere nothing is written late
def test_the_interval_ends_by_itself() -> None:
    device = Device("o", outbox_fsync="interval", outbox_interval_s=0.01)
    device.offer(Delivery("t", b"x", 1, False))
    deadline_ms = now_ms() + int(seconds(10) * 1000)
    while not device.counter("journal_bytes") and now_ms() < deadline_ms:
        device.outbox.tick()
    assert device.restart().drain() == ["x"]


def test_random_histories_lose_nothing() -> None:
    for_seeds(40, _history)


def _history(random: "object") -> None:
    """Publish, take, acknowledge, sync and restart in any order: all arrives, in order, and within
    the bounds.
    """
    bound = 32768 * random.between(1, 4)
    fsync = random.pick(["each", "interval"])
    device = Device(
        str(random.below(1 << 24)),
        outbox_messages=random.between(1, 40),
        outbox_journal_bytes=bound,
        outbox_fsync=fsync,
    )
    room = device.outbox.journal.free_blocks
    flying: list[Delivery] = []
    waiting: list[str] = []  # accepted, not acknowledged
    sent: set[str] = set()
    for number in range(random.between(50, 400)):
        action = random.below(100)
        if action < 45:
            text = f"{number:06}" + "x" * random.below(300)
            if device.put(text, "t" * random.pick((1, 1, 1, 400))):
                waiting.append(text[:6])
        elif action < 75 and len(flying) < 20:
            delivery = device.take()
            if delivery:
                flying.append(delivery)
                sent.add(delivery.payload[:6].decode())
        elif action < 96 and flying:
            delivery = flying.pop(0 if random.chance(90) else random.below(len(flying)))
            device.forget(delivery)
            text = delivery.payload[:6].decode()
            if text in waiting:  # else it came a second time
                waiting.remove(text)
        elif action < 98:
            device.outbox.sync()
        elif action == 98:
            if MICROPYTHON and fsync == "interval":
                device.outbox.sync()  # what is not on the storage yet may be lost then
            device = device.restart()
            flying = []
        assert device.taken_bytes() <= bound
        assert device.outbox.journal.free_blocks >= 0
    device.outbox.sync()
    assert device.taken_bytes() // 4096 == room - device.outbox.journal.free_blocks
    rest = device.restart().drain(length=6)
    assert rest == sorted(rest)
    assert [text for text in waiting if text not in rest] == []
    assert [text for text in rest if text not in waiting and text not in sent] == []


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
