"""The histories of test_histories.py with hypothesis as the one who chooses the steps: it looks for
the shortest that fails, and prints it.

The seed is printed; SECUREMQTT_SEED repeats it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from support.models.history import History
from support.speed import seconds

STEPS = 60
EXAMPLES = 50
LONG_STEPS = 200
LONG_EXAMPLES = 300


class Machine(RuleBasedStateMachine):
    """One history, a rule for each of its steps; what must hold is looked at after each, and that
    nothing is missing at the end.
    """

    durable = ""

    def __init__(self) -> None:
        super().__init__()
        self.history: History | None = None
        self.sound = False

    @initialize(
        number=st.integers(0, 1 << 20),
        when_full=st.sampled_from(["refuse", "drop_oldest", "drop_newest"]),
    )
    def begin(self, number: int, when_full: str) -> None:
        self.history = History(number, when_full, self.durable)
        self.sound = True

    def step(self, function: Callable[..., None], *arguments: object) -> None:
        """Do one step and look at what has come of it."""
        assert self.history is not None
        self.sound = False
        function(self.history, *arguments)
        self.history.check()
        self.sound = True

    @rule(
        size=st.one_of(st.integers(0, 60), st.integers(0, 1900)),
        qos=st.sampled_from([1, 0, 2]),
        expires_s=st.sampled_from([0, 1, 40]),
        newest_only=st.booleans(),
    )
    def publish(self, size: int, qos: int, expires_s: int, newest_only: bool) -> None:
        self.step(History.publish, size, qos, expires_s, newest_only)

    @rule()
    def turn(self) -> None:
        self.step(History.turn)

    @rule(
        up_bytes=st.sampled_from([10000, 30, 5, 1]), down_bytes=st.sampled_from([10000, 30, 3, 1])
    )
    def carry(self, up_bytes: int, down_bytes: int) -> None:
        self.step(History.carry, up_bytes, down_bytes)

    @rule(index=st.integers(0, 7))
    def answer(self, index: int) -> None:
        self.step(History.answer, index)

    @rule(kind=st.integers(0, 5), distance=st.integers(0, 60000))
    def answer_wrongly(self, kind: int, distance: int) -> None:
        self.step(History.answer_wrongly, kind, distance)

    @rule(qos=st.integers(0, 2))
    def send_down(self, qos: int) -> None:
        self.step(History.send_down, qos)

    @rule(number=st.integers(0, 2), wanted=st.booleans())
    def subscribe(self, number: int, wanted: bool) -> None:
        self.step(History.subscribe if wanted else History.unsubscribe, number)

    @rule(down_bytes=st.integers(0, 40))
    def lose(self, down_bytes: int) -> None:
        self.step(History.lose, down_bytes)

    @rule(forget_session=st.booleans())
    def lose_answers(self, forget_session: bool) -> None:
        self.step(History.lose_answers, forget_session)

    @rule(
        function=st.sampled_from(
            [History.restart, History.pause, History.flush, History.forget_session]
        )
    )
    def interrupt(self, function: Callable[..., None]) -> None:
        self.step(function)

    @rule(reachable=st.booleans())
    def reach(self, reachable: bool) -> None:
        self.step(History.reach, reachable)

    @rule(stuck=st.booleans())
    def stick(self, stuck: bool) -> None:
        self.step(History.stick, stuck)

    @rule(duration_ms=st.sampled_from([1, 1000, 11000, 50000]))
    def pass_time(self, duration_ms: int) -> None:
        self.step(History.pass_time, duration_ms)

    def teardown(self) -> None:
        if self.history is not None:
            try:
                if self.sound:  # else this would hide what has failed
                    self.history.come_to_rest()
            finally:
                self.history.close()


class DurableMachine(Machine):
    """The same with a journal."""

    durable = "each"


def _search(machine: type[Machine], examples: int, steps: int) -> None:
    number = int(os.environ.get("SECUREMQTT_SEED", random.SystemRandom().randrange(1 << 24)))
    print(f"SECUREMQTT_SEED={number}")
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large)
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=checks,
    )
    run_state_machine_as_test(seed(number)(machine), settings=chosen)


@pytest.mark.parametrize("machine", [Machine, DurableMachine])
def test_no_history_loses_anything(machine: type[Machine]) -> None:
    _search(machine, EXAMPLES, STEPS)


@pytest.mark.long
@pytest.mark.timeout(seconds(900))
@pytest.mark.parametrize("machine", [Machine, DurableMachine])
def test_no_history_loses_anything_however_long_it_is_looked_for(machine: type[Machine]) -> None:
    _search(machine, LONG_EXAMPLES, LONG_STEPS)
