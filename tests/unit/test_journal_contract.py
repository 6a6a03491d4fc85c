"""The journal and the contract with its storage: what is not flushed goes with the power, any
operation may fail, files close late.

The storage's own files do the work. What a test puts before one of them keeps to the same contract
(`write`, `flush`, `close`), and has a power cut, a failure or another thread come where no real one
can be had at will.
"""

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
