"""The journal behind a durable outbox: restart, order, what is written and when, what expires.

Each restart is without a farewell, as by a kill.
"""

from securemqtt.messages import Delivery
from securemqtt.platform import now_ms
from support.interpreters.either import MICROPYTHON, for_seeds, micropython_only
from support.models.journals import Device, filled, texts
from support.speed import seconds

PAST_S = 10


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


def test_the_last_segment_is_continued_after_a_restart() -> None:
    device = filled("o", 3).restart()
    assert device.put("d")
    assert len(device.segments()) == 1
    assert device.restart().drain() == texts(3, "d")


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
