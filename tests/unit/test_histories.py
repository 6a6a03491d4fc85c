"""Thousands of random histories of a device, the same on both interpreters from the same seed; see
support/models/history.py.

test_histories_by_hypothesis.py lets hypothesis look for them on CPython, and make them short.
"""

from support.interpreters.either import Random, for_seeds, micropython_only
from support.models.history import History

# Histories with a journal: they take longer.
DURABLE = 20


def _pour(history: History, random: Random, count: int) -> None:
    """Publish so much, some of it stale before long, that a journal is full, and what it holds in
    memory and in flight is written anew.
    """
    for _ in range(count):
        history.publish(random.between(500, 1900), 1, random.pick((0, 0, 40)), random.chance(30))


def _random_step(history: History, random: Random) -> None:
    """Do one of the things that can happen; the frequent ones are those that bring a history
    forward.
    """
    kind = random.below(114 if history.durable else 100)
    if kind >= 106:
        random.pick((history.restart, history.restart, history.flush, history.pause))()
    elif kind >= 100:
        # no more than a small heap holds
        _pour(history, random, random.below(20) if len(history.deliveries) < 40 else 0)
        if random.chance(50):
            history.restart()
    elif kind < 22:
        sizes = random.pick((5, 60, 1900) if history.durable else (5, 60, 700))
        history.publish(
            random.below(sizes),
            random.pick((0, 1, 1, 1, 2)),
            random.pick((0, 0, 0, 1, 40)),
            random.chance(15),
        )
    elif kind < 45:
        history.turn()
    elif kind < 65:
        history.carry(random.pick((1, 5, 30, 10000)), random.pick((1, 3, 30, 10000)))
    elif kind < 77:
        history.answer(0)
    elif kind < 79:
        history.answer(random.below(8))
    elif kind < 81:
        history.answer_wrongly(random.below(6), random.below(60000))
    elif kind < 84:
        history.send_down(random.below(3))
    elif kind < 86:
        (history.subscribe if random.chance(60) else history.unsubscribe)(random.below(3))
    elif kind < 89:
        history.lose(random.below(40))
    elif kind < 90:
        history.forget_session()
    elif kind < 91:
        history.lose_answers(random.chance(50))
    elif kind < 92:
        history.reach(random.chance(70))
    elif kind < 93:
        history.stick(random.chance(50))
    elif kind < 94:
        (history.flush if random.chance(50) else history.pause)()
    else:
        history.pass_time(random.below(random.pick((5, 2000, 11000, 50000))))


def _history(random: Random, when_full: str = "refuse", durable: str = "") -> None:
    with History(random.below(1 << 20), when_full, durable) as history:
        if durable and random.chance(60):
            _pour(history, random, random.between(10, 30))
        for _ in range(random.between(10, 150 if durable else 120)):
            _random_step(history, random)
            history.check()
        history.come_to_rest()


def test_what_is_lost_while_the_program_flushes_counts() -> None:
    with History(1) as history:
        history.come_to_rest()
        history.lose(0)
        history.flush()
        history.reach(False)
        history.pass_time(10000)
        for _ in range(2):
            history.flush()
        assert history.client.stats["failures"] == 2
        history.turn()
        history.pause()
        history.come_to_rest()


def test_nothing_is_lost_and_order_is_kept() -> None:
    for_seeds(60, _history)


def test_what_a_journal_holds_is_not_lost_by_a_kill() -> None:
    for_seeds(
        DURABLE,
        lambda random: _history(
            random, random.pick(("refuse", "refuse", "drop_oldest", "drop_newest")), "each"
        ),
    )


@micropython_only  # elsewhere all is written at once, and a thread syncs it
def test_what_a_board_writes_late_is_not_lost_once_the_interval_is_over() -> None:
    for_seeds(
        DURABLE,
        lambda random: _history(
            random, random.pick(("refuse", "drop_oldest", "drop_newest")), "interval"
        ),
    )


def test_a_full_outbox_drops_the_oldest_that_waits() -> None:
    for_seeds(30, lambda random: _history(random, "drop_oldest"))


def test_a_full_outbox_drops_the_newest() -> None:
    for_seeds(30, lambda random: _history(random, "drop_newest"))
