"""One message at which the broker hangs up must not keep all others from arriving.

The same on both interpreters, from the same seeds; see support/models/refusals.py.
"""

from support.interpreters.either import Random, for_seeds
from support.models.refusals import Refusals

# A message behind one that is refused arrives within this time.
PROMISE_MS = 60000
# So soon where there is nothing else to wait for.
SOON_MS = 25000


def _seen(history: Refusals) -> "list[str]":
    names = []

    def note(error: Exception) -> None:
        if type(error).__name__ != "ConnectionLost":  # that is told, too, once for each connection
            names.append(type(error).__name__)

    history.client.on_error(note)
    return names


def _one_bad(random: Random, qos: int, before: int, behind: int, neighbours: int = 1) -> None:
    with Refusals(random) as history:
        told = _seen(history)
        history.run(500)
        for _ in range(before):
            history.say(False, random.pick((1, 2)))
        for _ in range(neighbours):
            history.say(True, qos)
        for _ in range(behind):
            history.say(False, random.pick((1, 2)))
        first = history.deliveries[before]
        took_ms = history.run(PROMISE_MS * neighbours, lambda: not history.good_left())
        assert not history.good_left(), f"not there after {took_ms} ms"
        history.run(PROMISE_MS, lambda: history.client.stats["parked"] == neighbours)
        assert history.client.stats["parked"] == neighbours
        assert first.parked and not first.acknowledged and not first.dropped
        assert type(first.error).__name__ == "MessageRefused"
        assert "12 bytes on a," in str(first.error)
        assert not first.wait(1000) and not history.client.flush(1000)
        history.client.poll()
        assert told == ["MessageRefused"] * neighbours, told
        assert history.wrongly_parked() == 0
        # It is taken in the end, once the broker does.
        history.broker.lenient = True
        history.run(700000, lambda: not history.client.stats["parked"], 1000)
        assert first.acknowledged and not first.parked
        history.run(100)
        assert history.client._connection.outbox.parking is None
        history.bad.clear()
        history.come_to_rest()
        assert history.client.stats["sent"] == len(history.deliveries)


def test_what_lies_behind_a_refused_message_arrives() -> None:
    for_seeds(4, lambda random: _one_bad(random, random.pick((1, 2)), random.below(4), 5))


def test_a_refused_message_with_nothing_behind_it_is_parked_too() -> None:
    for_seeds(4, lambda random: _one_bad(random, 1, 0, 0))


def test_several_in_a_row_are_parked_each() -> None:
    for_seeds(4, lambda random: _one_bad(random, 1, random.below(2), 3, 3))


def _one_more(random: Random) -> None:
    """The back-off of the first one's connections is no reason to wait at the next one."""
    with Refusals(random) as history:
        for count in range(1, 4):
            history.say(True)
            history.say(False)
            took_ms = history.run(PROMISE_MS, lambda: not history.good_left())
            assert took_ms < SOON_MS, f"{took_ms} ms behind number {count}"
            history.run(PROMISE_MS, lambda n=count: history.client.stats["parked"] == n)


def test_what_lies_behind_the_next_one_does_not_wait_for_longer() -> None:
    for_seeds(4, _one_more)


def _often(random: Random) -> None:
    """A parked message is tried again after 10 minutes, then after 20, and so on up to a day."""
    with Refusals(random) as history:
        history.say(True)
        history.run(PROMISE_MS, lambda: history.client.stats["parked"])
        times_s = []
        for _ in range(4):
            refusals = history.broker.refusals
            began_ms = history.world.now_ms
            while history.broker.refusals == refusals:
                history.step(1000)
            times_s.append((history.world.now_ms - began_ms) // 1000)
            history.run(PROMISE_MS, lambda: history.client.connected)
        assert history.client.stats["parked"] == 1
        assert all(
            minutes * 60 - 60 <= time_s <= minutes * 60 + 60
            for time_s, minutes in zip(times_s, (10, 20, 40, 80))  # noqa: B905  (MicroPython has no strict)
        ), times_s


def test_it_is_tried_again_less_and_less_often() -> None:
    for_seeds(2, _often)


def _expiry(random: Random) -> None:
    with Refusals(random) as history:
        history.say(True, 1, 300)
        history.run(PROMISE_MS, lambda: history.client.stats["parked"])
        assert history.client.pending == 1
        history.run(400000, lambda: history.deliveries[0].dropped, 1000)
        assert history.deliveries[0].dropped and not history.deliveries[0].parked
        assert history.client.pending == history.client.stats["parked"] == 0
        history.say(False)
        history.run(PROMISE_MS, lambda: not history.good_left())
        assert history.deliveries[1].acknowledged


def test_a_parked_message_expires() -> None:
    for_seeds(2, _expiry)


def _supersede(random: Random) -> None:
    """A newer state takes the place of one that is parked, but not of one that is on its way."""
    with Refusals(random) as history:
        history.say(True, 1, 0, True)
        history.run(PROMISE_MS, lambda: history.client.stats["parked"])
        refusals = history.broker.refusals
        history.broker.lenient = True
        history.run(700000, lambda: not history.client._connection.link.session.idle())
        history.say(False, 1, 0, True)
        assert not history.deliveries[0].dropped
        history.run(PROMISE_MS, lambda: not history.client.pending)
        assert history.deliveries[0].acknowledged and history.deliveries[1].acknowledged
        history.broker.lenient = False
        history.say(True, 1, 0, True)
        history.run(PROMISE_MS, lambda: history.client.stats["parked"])
        assert history.broker.refusals > refusals
        history.say(False, 1, 0, True)
        assert history.deliveries[2].dropped and not history.deliveries[2].parked
        # Its id stays reserved, but it will not go out again.
        reserved = [one for one, number in history.device.in_use.items() if number == 2]
        session = history.client._connection.link.session
        assert reserved == session.withheld
        assert [session.unanswered[one] for one in reserved] == [None]  # nothing but its id is kept
        history.device.in_use = {}
        history.run(PROMISE_MS, lambda: not history.client.pending)
        assert history.client._connection.outbox.parking is None


def test_a_newer_state_takes_the_place_of_a_parked_one() -> None:
    for_seeds(4, _supersede)


def _caught_up(random: Random) -> None:
    """A reconnection on purpose while a message is alone on its way: it is sent again once."""
    with Refusals(random) as history:
        history.say(True)
        parking = None
        while parking is None or not parking.careful:
            history.step()
            parking = history.client._connection.outbox.parking
        history.say(False)
        while parking._alone is None or parking._alone.delivery is not history.deliveries[1]:
            history.step()
        catch_ups = history.client.stats["catch_ups"]
        history.client._connection.make_inbox()._left = 1
        while history.client.stats["catch_ups"] == catch_ups:  # the broker does not answer
            history.pass_time(500)
            history.carry(1 << 30, 0)
            history.turn()
        for _ in range(10):
            history.carry(1 << 30, 1 << 30)
            history.turn()
        history.answer(-1)  # the ping, though a message came before it
        history.carry(0, 1 << 30)
        history.turn()
        assert history.client.pending == 2
        history.run(PROMISE_MS, lambda: not history.good_left())
        history.run(PROMISE_MS, lambda: history.client.stats["parked"])
        assert history.client.pending == history.client.stats["parked"] == 1
        history.broker.lenient = True
        history.run(700000, lambda: not history.client.pending, 1000)
        assert history.client.stats["acknowledged"] == 2
        history.bad.clear()
        history.come_to_rest()


def test_a_reconnection_on_purpose_sends_what_was_alone_once() -> None:
    for_seeds(4, _caught_up)


def _received_at_last(random: Random) -> None:
    """The broker takes a parked message of QoS 2 at last, and the power goes before PUBCOMP."""
    with Refusals(random, "each") as history:
        history.say(True, 2)
        history.run(PROMISE_MS, lambda: history.client.stats["parked"])
        history.broker.lenient = True
        while not history.broker.received:  # tried again
            history.step(1000)
        link = history.client._connection.link
        (packet_id,) = link.session.unanswered
        while not link.is_released(packet_id):
            history.answer(0)
            history.carry(0, 1 << 30)
            history.client.poll()
        history.lose(0)
        history.turn()
        assert history.client.pending == 1
        history.restart()
        assert history.client.pending == 1
        history.run(PROMISE_MS, lambda: not history.client.pending)
        history.bad.clear()
        history.come_to_rest()


def test_one_that_was_received_at_last_outlives_the_power_until_its_end() -> None:
    for_seeds(4, _received_at_last)


def _hung_up_on(random: Random) -> None:
    """Where the broker ends every connection, the usual back-off holds, and nothing is parked."""
    with Refusals(random) as history:
        for _ in range(3):
            history.say(False)
        history.broker.over_quota = True
        history.run(600000)
        connects = history.client.stats["connects"]
        history.run(600000)
        assert history.client.stats["connects"] - connects <= 60
        assert history.client.stats["parked"] == 0
        history.broker.over_quota = False
        history.run(300000, lambda: not history.client.pending)
        assert history.wrongly_parked() == 0
        history.come_to_rest()


def _battery(random: Random) -> None:
    """A program that wakes, connects once and sleeps gets past a refused message, too."""
    with Refusals(random, "each") as history:
        for _ in range(random.below(3)):
            history.say(False)
        history.say(True)
        wakes = 0
        parked_at = 0
        while not parked_at or wakes < parked_at + 2:
            history.say(False)
            # One connection: until it is lost, or nothing but what is parked is left.
            history.run(
                20000,
                lambda: (
                    history.client.stats["failures"]
                    or history.client.pending == history.client.stats["parked"]
                ),
            )
            if history.client.stats["parked"]:
                parked_at = parked_at or wakes
            wakes += 1
            assert wakes < 12, "not parked"
            history.restart()
            history.pass_time(60000)
            if parked_at:  # it is known as parked
                history.run(20000, lambda: history.client.pending == 1)
                assert history.client.stats["parked"] == history.client.pending == 1
        missing = set(range(len(history.deliveries))) - history.bad - set(history.broker.received)
        assert not missing, missing
        refusals = history.broker.refusals
        history.restart()  # a start alone is no reason to try it again
        history.run(20000)
        assert history.broker.refusals == refusals
        history.broker.lenient = True
        history.pass_time(600000)
        history.restart()
        history.run(30000, lambda: not history.client.pending)
        assert not history.client.pending and history.bad <= set(history.broker.received)
        history.bad.clear()
        history.restart()
        history.come_to_rest()


def test_where_every_connection_is_ended_nothing_is_parked() -> None:
    for_seeds(3, _hung_up_on)


def test_a_program_that_wakes_and_connects_once_gets_past_it() -> None:
    for_seeds(4, _battery)


class Weather:
    """What came of many storms."""

    published = refused = wrongly = 0


def _storm(random: Random, durable: str = "") -> None:
    with Refusals(random, durable) as history:
        history.storm(60000)
        history.run(4 * PROMISE_MS, lambda: not history.good_left() or history.wrongly_parked())
        Weather.published += len(history.deliveries)
        Weather.refused += len(history.bad)
        Weather.wrongly += history.wrongly_parked()
        history.broker.lenient = True
        history.run(90000000, lambda: not history.client.pending, 5000)
        history.bad.clear()
        history.come_to_rest()  # nothing is lost


def test_nothing_is_lost_in_bad_weather() -> None:
    for_seeds(8, _storm)
    print(
        f"{Weather.published} messages, {Weather.refused} that the broker refuses; "
        f"{Weather.wrongly} that it takes were parked for a time"
    )


def test_nothing_is_lost_in_bad_weather_and_power_cuts() -> None:
    for_seeds(6, lambda random: _storm(random, "each"))
