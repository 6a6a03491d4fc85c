"""The delays between attempts to connect."""

from securemqtt.protocol.backoff import lasting, next_delay
from support.interpreters.either import Random
from support.models.fleet import arrivals


def _longest(low: int, high: int) -> int:
    """Stand for a jitter that always picks the bound."""
    return high


def _delays(count: int, failures: int = 0) -> "list[int]":
    """Return the longest delays of so many failures one after another."""
    delays = []
    for _ in range(count):
        delay_ms, failures = next_delay(_longest, failures)
        delays.append(delay_ms)
    return delays


def test_the_bound_doubles_up_to_the_cap() -> None:
    assert _delays(10) == [1000, 2000, 4000, 8000, 16000, 32000, 64000, 120000, 120000, 120000]


def test_the_jitter_is_asked_for_the_whole_range() -> None:
    asked = []
    for failures in range(3):
        assert next_delay(lambda low, high: asked.append((low, high)) or 5, failures) == (
            5,
            failures + 1,
        )
    assert asked == [(0, 1000), (0, 2000), (0, 4000)]


def test_what_time_does_not_cure_goes_to_the_cap_at_once() -> None:
    assert next_delay(_longest, 0, transient=False) == (120000, 1)
    assert next_delay(_longest, 1) == (2000, 2)


def test_only_a_connection_that_lasted_counts_as_success() -> None:
    assert next_delay(_longest, 3, lived_ms=29999) == (8000, 4)
    assert next_delay(_longest, 3, lived_ms=30000) == (1000, 1)
    assert [lasting(3, lived_ms) for lived_ms in (0, 29999, 30000)] == [3, 3, 0]


def test_years_of_failures_neither_overflow_nor_wait_longer() -> None:
    assert _delays(3000)[-1] == 120000


def test_the_delays_of_a_crowd_are_spread_evenly() -> None:
    source = Random(1)
    quarters = [0] * 4
    for _ in range(2000):
        delay_ms, _ = next_delay(source.between, 0)
        quarters[min(delay_ms * 4 // 1000, 3)] += 1
    assert all(400 < count < 600 for count in quarters), quarters


def test_a_fleet_does_not_come_back_at_once() -> None:
    clients, away_s = 3000, 300
    assert list(arrivals(lambda low, high: high, clients, away_s).values()) == [clients], (
        "without jitter they do: this would show it"
    )
    spread = arrivals(Random(1).between, clients, away_s)
    assert sum(spread.values()) == clients
    # The bound is 120 s by then, and what is left of a delay is short rather than long: the first
    # second has about 2 / 120 of a fleet (docs/recovery.md has it for a million). Of these few,
    # chance may put twice as many into the fullest second.
    assert max(spread.values()) < 4 * clients // 120
    assert max(spread) <= 120
    assert sum(count for second, count in spread.items() if second < 60) > clients // 2
