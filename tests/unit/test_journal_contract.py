"""The journal and the contract with its storage: what is not flushed goes with the power, any
operation may fail, files close late.

The storage's own files do the work. What a test puts before one of them keeps to the same contract
(`write`, `flush`, `close`), and has a power cut, a failure or another thread come where no real one
can be had at will.
"""

from securemqtt.outbox.upkeep import storage_error
from securemqtt.platform import now_ms
from support.models.journals import Cached, Device, fail, filled, recover, texts

# Nothing else has room in its segment.
LARGE = "x" * 4060


def test_a_segment_that_is_rolled_over_is_synced_and_closed() -> None:
    device = filled("o", 1)
    file = Cached(device)
    device.put("b")
    device.put(LARGE)
    assert len(device.segments()) == 2
    device.outbox.sync()
    assert file.closed
    assert device.restart().drain() == texts(1, "b", LARGE)


def test_a_segment_that_is_rolled_over_during_its_sync_is_synced_again_before_it_is_closed() -> (
    None
):
    device = filled("o", 1)
    file = Cached(device)
    device.put("b")

    def publish() -> None:
        device.put("c")
        device.put(LARGE)

    file.meanwhile = publish
    device.outbox.sync()
    assert file.meanwhile is None and len(device.segments()) == 2
    device.outbox.sync()  # which `publish` does, in the other thread
    assert file.closed
    assert device.restart().drain() == texts(1, "b", "c", LARGE)


def test_what_a_sync_notes_of_acknowledgements_is_synced_with_nothing_else_to_sync() -> None:
    device = filled("o", 30)
    device.outbox.sync()
    Cached(device)
    for _ in range(12):
        device.forget(device.take())
    device.outbox.sync()
    assert device.restart().drain() == texts(18, start=12)


def test_what_was_noted_of_acknowledgements_before_a_sync_is_synced_too() -> None:
    device = filled("o", 120, outbox_journal_bytes=1 << 20)
    device.outbox.sync()
    Cached(device)
    for _ in range(100):  # after so many, they are noted at once
        device.forget(device.take())
    device.outbox.sync()
    assert device.restart().drain() == texts(20, start=100)


def test_a_record_whose_write_failed_and_is_there_all_the_same_hides_none_behind_it() -> None:
    for count in (1, 3):
        device = filled("o" + str(count), count)
        fail(device, "write")
        assert device.put("failed").stored == 0
        assert device.counter("journal_failures") == 1
        recover(device)
        assert device.put("later").stored > 0
        assert device.restart().drain() == texts(count, "failed", "later")
        assert device.drain() == texts(count, "failed", "later")


class _Short:
    """A file on a storage that is full: a part of what is written is taken."""

    def __init__(self, device: Device) -> None:
        relay = device.rig.file
        self._file = relay.target
        relay.target = self

    def write(self, data: bytes) -> int:
        return self._file.write(data[:-1])

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def test_a_record_that_was_written_in_part_is_a_failure() -> None:
    device = filled("o", 2)
    _Short(device)
    assert device.put("part").stored == 0
    assert (device.counter("journal_failures"), device.counter("unstored")) == (1, 1)
    assert device.outbox.failure.code == 28
    recover(device)
    assert device.put("whole").stored > 0
    assert device.outbox.failure is None
    assert device.restart().drain() == texts(2, "whole")


def test_a_storage_that_has_failed_is_left_alone_for_a_minute() -> None:
    device = filled("o", 1)
    fail(device, "write")
    assert device.put("failed").stored == 0
    written = device.counter("journal_bytes")
    assert device.put("meanwhile").stored == 0
    left_ms = device.outbox.journal.retry_ms - now_ms()
    assert 30000 < left_ms <= 60000
    assert (device.counter("journal_bytes"), device.counter("journal_failures")) == (written, 1)
    recover(device)
    assert device.put("later").stored > 0
    assert device.drain() == texts(1, "failed", "meanwhile", "later")


def test_a_sync_with_nothing_new_does_not_touch_the_storage() -> None:
    device = filled("o", 1)
    file = Cached(device)
    flushed = []
    device.put("b")
    device.outbox.sync()
    file.meanwhile = lambda: flushed.append("again")
    device.outbox.sync()
    assert flushed == []


def test_what_a_compaction_does_not_copy_is_on_the_storage_as_well() -> None:
    device = Device("o", outbox_journal_bytes=32768)
    file = None
    count = 0
    while device.put(f"{count:03}" + "." * 80):
        count += 1
        assert count < 1000
        if device.rig.file is not file:
            file = device.rig.file
            Cached(device)
    assert count > 150
    assert device.restart().drain(length=3) == [f"{number:03}" for number in range(count)]


def test_an_acknowledgement_that_cannot_be_noted_is_a_failure_and_costs_a_second_delivery() -> None:
    device = filled("o", 3)
    device.outbox.sync()
    device.forget(device.take())
    fail(device, "write")
    device.outbox.sync()
    assert device.counter("journal_failures") == 1
    assert device.restart().drain()[-2:] == texts(2, start=1)


def test_what_comes_while_an_outbox_is_left_is_on_the_storage() -> None:
    device = filled("o", 1)
    file = Cached(device)
    device.put("before")
    file.meanwhile = lambda: device.put("late")  # as another thread does, after the last sync
    device.outbox.release()
    assert file.meanwhile is None
    assert device.restart().drain() == texts(1, "before", "late")


def test_a_failure_of_the_storage_says_what_to_do_about_it() -> None:
    storage = Device("o").outbox.journal.storage
    seen = {}
    for code in (28, 27, 122, 30, 13, 1, 5):
        error = storage_error(storage, OSError(code, "of a test"))
        assert error.code == code and storage.directory in str(error)
        seen[code] = error.remedy
    assert seen[28] == seen[27] == seen[122]
    assert seen[30] == seen[13] == seen[1]
    assert len(set(seen.values())) == 3
    assert "free some space" in seen[28] and "may write" in seen[30]


def test_what_a_failed_write_has_left_counts_against_the_bound() -> None:
    device = Device("o", outbox_journal_bytes=131072)
    small = [f"{number:03}" for number in range(40)]
    for text in small:
        assert device.put(text).stored > 0
        fail(device, "write")
        device.put("x" * 5000)
        recover(device)
        delivery = device.take()
        while delivery is not None:
            if len(delivery.payload) == 5000:
                device.forget(delivery)
            delivery = device.take()
        assert device.taken_bytes() <= 131072
    rest = device.restart().drain(length=3)
    assert [text for text in rest if text != "xxx"] == small


def test_an_acknowledgement_goes_on_where_closing_its_segment_fails() -> None:
    device = Device("o", outbox_journal_bytes=1 << 22, outbox_messages=1)
    for _ in range(9):  # more than is kept to be continued
        device.put("x" * 8000)
    fail(device, "close")
    assert len(device.drain()) == 9
    assert device.counter("journal_failures") == 1
    assert device.segments() == []
    recover(device)
    assert device.put("next").stored > 0
    assert device.restart().drain() == ["next"]


def test_the_room_of_a_segment_that_could_not_be_closed_is_given_back() -> None:
    device = Device("o")
    room = device.outbox.journal.free_blocks
    device.put("a")
    fail(device, "close")
    device.drain()
    device.outbox.release()
    assert device.counter("journal_failures") == 1
    assert device.segments() == []
    assert device.outbox.journal.free_blocks == room


def test_leaving_goes_on_where_closing_fails_and_leaves_the_directory_to_others() -> None:
    device = filled("o", 3)
    fail(device, "close")
    device.outbox.release()
    assert device.counter("journal_failures") == 1
    device.outbox.resume()
    recover(device)
    assert device.put("d").stored > 0
    assert device.drain(False) == texts(3, "d")
    device.outbox.release()
    other = Device("o", device.directory)
    assert other.drain() == texts(3, "d")
    other.outbox.release()


def test_what_is_to_be_written_late_is_only_taken_where_it_will_find_room() -> None:
    device = Device(
        "o",
        outbox_fsync="interval",
        outbox_interval_s=3600,
        outbox_journal_bytes=32768,
        outbox_messages=20,
    )
    device.outbox.write_late = True  # as on flash
    count = 0
    while device.put(f"{count:03}" + "." * 80):
        count += 1
        assert count < 1000
    kept = []
    for number in range(count):  # one stays in each segment, so none goes
        delivery = device.take()
        if number % 30:
            device.forget(delivery)
        else:
            kept.append(delivery.payload[:3].decode())
    assert len(kept) >= 7 and device.outbox.journal.unread == 0
    taken = [text for text in texts(5) if device.put(text)]
    device.outbox.sync()
    assert device.counter("unstored") == 0
    rest = device.restart().drain(length=3)
    assert [text for text in kept + taken if text[:3] not in rest] == []
    device.outbox.release()
