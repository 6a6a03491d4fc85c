"""The delays between attempts to connect."""

from securemqtt.backoff import Backoff
from support.either import Random
from support.fleet import arrivals


def _longest() -> Backoff:
    """Give a back-off whose jitter always picks the bound."""
    return Backoff(lambda low, high: high)


def test_the_bound_doubles_up_to_the_cap() -> None:
    backoff = _longest()
    assert [backoff.lost(0) for _ in range(10)] == [1000, 2000, 4000, 8000, 16000, 32000, 64000, 120000, 120000, 120000]


def test_the_jitter_is_asked_for_the_whole_range() -> None:
    asked = []
    backoff = Backoff(lambda low, high: asked.append((low, high)) or 5, base_ms=10, cap_ms=30)
    assert [backoff.lost(0) for _ in range(4)] == [5, 5, 5, 5]
    assert asked == [(0, 10), (0, 20), (0, 30), (0, 30)]


def test_what_time_does_not_cure_goes_to_the_cap_at_once() -> None:
    backoff = _longest()
    assert backoff.lost(0, transient=False) == 120000
    assert backoff.lost(0) == 2000


def test_only_a_connection_that_lasted_counts_as_success() -> None:
    backoff = _longest()
    for _ in range(3):
        backoff.lost(0)
    backoff.connected(1000)
    assert backoff.lost(30999) == 8000
    backoff.connected(40000)
    assert backoff.lost(70000) == 1000
    assert backoff.failures == 1


def test_an_attempt_that_fails_does_not_live_on_an_earlier_connection() -> None:
    backoff = _longest()
    backoff.connected(0)
    backoff.lost(30000)
    assert [backoff.lost(60000 * n) for n in range(1, 4)] == [2000, 4000, 8000]


def test_years_of_failures_neither_overflow_nor_wait_longer() -> None:
    backoff = _longest()
    for _ in range(3000):
        delay = backoff.lost(0)
    assert delay == 120000


def test_the_delays_of_a_crowd_are_spread_evenly() -> None:
    source = Random(1)
    quarters = [0] * 4
    for _ in range(2000):
        delay = Backoff(source.between, base_ms=1000).lost(0)
        quarters[min(delay * 4 // 1000, 3)] += 1
    assert all(400 < count < 600 for count in quarters), quarters


def test_a_fleet_does_not_come_back_at_once() -> None:
    clients, away_s = 3000, 300
    assert list(arrivals(lambda low, high: high, clients, away_s).values()) == [clients], "without jitter they do: this would show it"
    spread = arrivals(Random(1).between, clients, away_s)
    assert sum(spread.values()) == clients
    # The bound is 120 s by then, and what is left of a delay is short rather than long: the first second has about 2 / 120 of a fleet
    # (docs/recovery.md has it for a million). Of these few, chance may put twice as many into the fullest second.
    assert max(spread.values()) < 4 * clients // 120
    assert max(spread) <= 120
    assert sum(count for second, count in spread.items() if second < 60) > clients // 2
