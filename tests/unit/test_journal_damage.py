"""A journal whose files are damaged, gone, or not the outbox's; a directory that cannot be used.

Each restart is without a farewell, as by a kill.
"""

import os

from securemqtt import log_to
from securemqtt.messages import Delivery
from support.interpreters.either import directory, scratch, write
from support.models.journals import Device, filled, recover, texts


def read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


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
