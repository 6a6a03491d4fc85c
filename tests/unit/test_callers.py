"""A publish that interrupts the client itself: a callback on a board, a signal handler on a
computer. At every point where it can, nothing is lost, doubled or miscounted.
"""

import os

import securemqtt
from securemqtt import Client, log_to
from securemqtt.errors import OutboxFull
from support.interpreters.either import MICROPYTHON, SWEEP
from support.interpreters.strike import struck
from support.models.history import History

_ALL = 1 << 30
# Each run takes others of the points, and `make test-long` nearly all: from source MicroPython has
# the same jumps as in the form that a board has, only slower, and CPython has many more points.
_COMPILED = securemqtt.__file__.endswith(".mpy")
_STEP = max(1, (4 if _COMPILED else 12 if MICROPYTHON else 7) // SWEEP)


class _Trial:
    """A device whose program publishes numbers, and a callback of which does so, too."""

    def __init__(self, durable: str = "") -> None:
        self.history = History(1, durable=durable)
        # A number that is taken first may be sent second, where the callback strikes in between.
        self.history.device.ordered = False
        self.client = self.history.client
        self.numbers = 0
        self._checked = 0  # of the numbers
        self.deliveries = []
        self.deliver()

    def publish(self) -> None:
        self.numbers += 1
        payload = str(self.numbers).encode()
        self.deliveries.append(self.client.publish("a", payload))

    def carry(self) -> None:
        """Let everything through, and have all that has arrived answered."""
        self.history.carry(_ALL, _ALL)
        while self.history.broker.waiting:
            self.history.answer(0)
        self.history.carry(0, _ALL)

    def deliver(self) -> None:
        """Serve the network until nothing waits."""
        for _ in range(100):
            self.carry()
            self.client.poll()
            if self.client.connected and not self.client.pending:
                return
            self.history.pass_time(1)
        raise AssertionError(f"{self.client.pending} never left")

    def check(self, again: bool = False) -> None:
        """After `deliver`: each number has arrived, and all is counted.

        Once, unless some are sent again after a lost connection.
        """
        received = self.history.broker.received
        wanted = range(self._checked + 1, self.numbers + 1)
        assert sorted(set(received)) == list(wanted), received
        assert again or len(received) == len(wanted), received
        received.clear()
        self._checked = self.numbers
        assert all(delivery.acknowledged for delivery in self.deliveries)
        for delivery in self.deliveries:
            assert delivery.wait(0) and not (delivery.dropped or delivery.parked), delivery
            assert delivery.error is None and "acknowledged" in repr(delivery)
        self.deliveries.clear()
        stats = self.client.stats
        assert stats["sent"] == stats["acknowledged"] == self.numbers, stats
        assert stats["dropped"] == 0, stats
        assert self.client.flush(0)


def _strike_everywhere(trial: _Trial, function: object, prepare: object = None) -> None:
    """Have a publish strike at each point of `function`, one in each run."""
    # Each run begins with another point, so that in time all have their turn.
    point = start = os.urandom(1)[0] % _STEP
    while True:
        if prepare is not None:
            prepare()
        happened = struck(point, trial.publish, function)
        trial.deliver()
        trial.check()
        if not happened:
            break
        point += _STEP
    print(f"struck at points {start} to {point} in steps of {_STEP}")
    assert point > 20


def _everywhere(durable: str = "") -> None:
    trial = _Trial(durable)

    def in_flight() -> None:
        trial.publish()
        trial.client.poll()
        trial.carry()

    def publish_and_turn() -> None:
        trial.publish()
        trial.client.poll()  # sends this one, and reads the answer to the one before

    try:
        _strike_everywhere(trial, trial.publish)
        _strike_everywhere(trial, publish_and_turn, in_flight)
    finally:
        trial.history.close()


def test_a_publish_strikes_anywhere() -> None:
    _everywhere()


def test_a_publish_strikes_anywhere_with_a_journal_that_is_written_at_once() -> None:
    _everywhere("each")


def test_a_publish_strikes_anywhere_with_a_journal_that_is_written_at_intervals() -> None:
    _everywhere("interval")


def test_a_publish_strikes_where_messages_are_in_the_journal_alone() -> None:
    trial = _Trial("each")
    client = trial.client

    def many_wait() -> None:  # more than memory has room for
        trial.history.lose(0)
        client.poll()
        assert not client.connected
        for _ in range(13):
            trial.publish()

    def publish_and_recover() -> None:
        trial.publish()
        trial.history.pass_time(120000)
        for _ in range(4):
            client.poll()
            trial.carry()

    try:
        many_wait()
        point = 0
        while struck(point, trial.publish, publish_and_recover):
            trial.deliver()
            trial.check(True)
            point += 5 * _STEP
            many_wait()
        assert point > 100
    finally:
        trial.history.close()


def _in_the_middle(client: Client, act: object) -> None:
    """Call `act` while the client is at work on its outbox."""
    with client._connection.lock:
        act()
    client.flush(0)  # a turn of the loop, or the next message, has it admitted on CPython


def test_what_the_outbox_has_no_room_for_then_is_told_as_dropped() -> None:
    with History(1) as history:
        client = history.client
        deliveries = []

        def publish() -> None:
            deliveries.append(client.publish("a", b"0"))

        for _ in range(12):
            publish()
        assert client.pending == 12
        _in_the_middle(client, publish)
        assert deliveries[-1].dropped and not deliveries[-1].acknowledged
        assert not deliveries[-1].wait(0)
        assert isinstance(client.last_error, OutboxFull)
        assert client.stats["dropped"] == 1
        assert client.pending == 12


def test_a_publish_strikes_anywhere_in_one_that_is_refused() -> None:
    """There a board loads modules for the occasion, which a callback may find half there."""
    with History(1) as history:
        client = history.client
        deliveries = []
        counts = {"refused": 0}

        def publish() -> None:
            try:
                deliveries.append(client.publish("a", b"0"))
            except OutboxFull:
                counts["refused"] += 1

        for _ in range(12):
            client.publish("a", b"0")
        point = os.urandom(1)[0] % _STEP
        while struck(point, publish, publish):
            point += _STEP
        assert point > 20
        assert counts["refused"] > 0 and deliveries
        assert all(delivery.dropped for delivery in deliveries)
        assert client.stats["dropped"] == len(deliveries) + counts["refused"]
        assert client.pending == 12


def test_what_waits_to_be_admitted_is_bounded() -> None:
    with History(1) as history:
        client = history.client
        taken = []

        def flood() -> None:
            while not (taken and taken[-1].dropped):
                taken.append(client.publish("a", b"0", newest_only=True))

        _in_the_middle(client, flood)
        assert 10 < len(taken) < 2000
        assert client.stats["dropped"] == len(taken) - 1  # but for the newest that could wait
        assert client.pending == 1
        assert [delivery.dropped for delivery in taken].index(False) == len(taken) - 2
        assert isinstance(client.last_error, OutboxFull)


def test_a_log_that_is_published_with_a_full_outbox_comes_to_an_end() -> None:
    history = History(1)
    client = history.client
    lines = []

    def publish_line(level: str, text: str) -> None:
        lines.append(text)
        client.publish("a", b"0")

    try:
        for _ in range(12):
            client.publish("a", b"0")
        log_to(publish_line)
        _in_the_middle(client, lambda: client.publish("a", b"0"))
        assert [line for line in lines if "published while the client was interrupted" in line]
        assert len(lines) < 5
        assert client.stats["dropped"] >= 1 and client.pending == 12
    finally:
        log_to(None)
        history.close()


def test_what_was_published_first_is_sent_first() -> None:
    with History(1) as history:
        client = history.client
        history.come_to_rest()
        _in_the_middle(client, lambda: [client.publish("a", str(n).encode()) for n in (51, 52)])
        client.publish("a", b"53")
        client.flush(0)
        history.carry(_ALL, _ALL)
        assert history.broker.received[-3:] == [51, 52, 53]


if MICROPYTHON:
    import micropython

    def test_a_hard_interrupt_cannot_publish_and_damages_nothing() -> None:
        trial = _Trial()
        client = trial.client
        error = None
        try:
            trial.publish()
            micropython.heap_lock()  # as it is in a hard interrupt
            try:
                client.publish("a", b"99")
            except MemoryError as failed:
                error = failed
            finally:
                micropython.heap_unlock()
            assert error is not None
            assert not client._connection.lock.interrupts()
            trial.publish()
            trial.deliver()
            trial.check()
        finally:
            trial.history.close()
