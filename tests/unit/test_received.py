"""What a session knows of the messages that come in: in which order they are acknowledged, and that
none is run twice; against a broker that gives out packet ids as the specification allows.
"""

from securemqtt.messages import Message
from securemqtt.platform import REMEMBERED
from securemqtt.protocol.received import Received
from support.interpreters.either import Random, for_seeds, raised


def _message(
    text: str, packet_id: int, connection: int = 1, dup: bool = False, qos: int = 1
) -> Message:
    return Message("t", text.encode(), qos, False, dup, packet_id, connection)


def _kept(received: Received, message: Message) -> bool:
    """Let a message come, and keep it if it is new; return whether it is."""
    new = received.is_new(message)
    if new:
        received.keep(message)
    return new


def _acknowledged(received: Received) -> "list[int]":
    """Acknowledge what can be; return the packet ids."""
    ids = []
    message = received.next()
    while message is not None:
        ids.append(message.packet_id)
        received.acknowledged(len(ids))
        message = received.next()
    return ids


def test_acknowledgements_go_out_in_the_order_of_arrival() -> None:
    received = Received()
    messages = [_message(str(number), number) for number in (3, 1, 2)]
    for message in messages:
        assert _kept(received, message)
    received.done(messages[1], True)
    received.done(messages[2], True)
    assert _acknowledged(received) == []
    received.done(messages[0], True)
    assert _acknowledged(received) == [3, 1, 2]
    assert received.next() is None


def test_what_comes_again_joins_its_first_copy_until_that_is_handled() -> None:
    received = Received()
    first = _message("a", 7)
    _kept(received, first)
    received.begin(True)
    assert not _kept(received, _message("a", 7, 2, True))
    assert received.next() is None
    received.done(first, True)
    assert received.next() is first and first.connection_number == 2
    assert _acknowledged(received) == [7]


def test_what_was_handled_is_acknowledged_and_not_run() -> None:
    received = Received()
    first = _message("a", 7)
    _kept(received, first)
    received.done(first, True)
    for connection in (2, 3, 4):
        received.begin(True)
        again = _message("a", 7, connection, True)
        assert not _kept(received, again) and again.done
        assert _acknowledged(received) == [7]


def test_what_only_looks_alike_is_run() -> None:
    for again in (
        _message("a", 7, 2, False),  # a new one: the first one's PUBACK had arrived
        _message("b", 7, 2, True),  # another content
        _message("a", 8, 2, True),  # another id
        _message("a", 7, 1, True),  # on the same connection
    ):
        received = Received()
        first = _message("a", 7)
        _kept(received, first)
        received.done(first, True)
        assert _acknowledged(received) == [7]
        if again.connection_number == 2:
            received.begin(True)
        assert _kept(received, again), again


def test_what_is_confirmed_is_forgotten() -> None:
    received = Received()
    messages = [_message(str(number), number) for number in (1, 2)]
    for message in messages:
        _kept(received, message)
        received.done(message, True)
    assert _acknowledged(received) == [1, 2]
    received.confirmed(1)
    received.begin(True)
    assert _kept(received, _message("1", 1, 2, True))
    assert not _kept(received, _message("2", 2, 2, True))


def test_what_was_refused_as_new_makes_its_id_new() -> None:
    received = Received()
    first = _message("a", 7)
    _kept(received, first)
    received.done(first, True)
    received.begin(True)
    assert received.is_new(_message("a", 7, 2, False))  # and there was no room to keep it
    received.begin(True)
    assert _kept(received, _message("a", 7, 3, True))


def test_an_option_has_it_run_again_where_its_acknowledgement_was_written() -> None:
    received = Received(run_again=True)
    first, second = _message("a", 7), _message("b", 8)
    for message in (first, second):
        _kept(received, message)
    received.done(first, True)
    assert _acknowledged(received) == [7]
    received.done(second, True)  # and the connection ends before it is acknowledged
    received.begin(True)
    assert _kept(received, _message("a", 7, 2, True))
    assert not _kept(received, _message("b", 8, 2, True))


def test_what_had_no_handler_may_have_one_when_it_comes_again() -> None:
    received = Received()
    first = _message("a", 7)
    _kept(received, first)
    received.done(first, False)
    assert _acknowledged(received) == [7]
    received.begin(True)
    assert _kept(received, _message("a", 7, 2, True))


def test_a_new_session_knows_nothing() -> None:
    for qos in (1, 2):
        received = Received()
        done, waiting = _message("a", 7, qos=qos), _message("b", 8, qos=qos)
        for message in (done, waiting):
            _kept(received, message)
        received.done(done, True)
        received.begin(False)
        assert received.next() is None
        assert _kept(received, _message("a", 7, 2, True, qos))
        assert _kept(received, _message("b", 8, 2, True, qos))
        received.done(waiting, True)  # the earlier copy: nobody waits for it
        assert received.next() is None


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    received = Received()
    for packet_id in range(1, REMEMBERED + 2):
        message = _message("a", packet_id)
        _kept(received, message)
        received.done(message, True)
    received.begin(True)
    assert _kept(received, _message("a", 1, 2, True))
    assert not _kept(received, _message("a", 2, 2, True))


def test_of_qos_2_the_id_says_it_until_it_is_released() -> None:
    received = Received()
    first = _message("a", 7, qos=2)
    assert _kept(received, first)
    assert not _kept(received, _message("a", 7, 1, True, 2))  # twice on one connection
    received.done(first, True)
    assert _acknowledged(received) == [7]
    received.begin(True)
    assert not _kept(received, _message("other", 7, 2, False, 2))
    assert _acknowledged(received) == [7]
    received.released(7)
    received.released(7)
    assert _kept(received, _message("b", 7, 2, False, 2))


def test_in_doubt_what_was_handled_with_qos_1_is_known_still_and_nothing_of_qos_2() -> None:
    received = Received()
    handled, waiting, twice = _message("a", 7), _message("b", 8), _message("c", 9, qos=2)
    for message in (handled, waiting, twice):
        assert _kept(received, message)
    for message in (handled, twice):
        received.done(message, True)
    received.begin(False, True)
    assert not _kept(received, _message("a", 7, 2, True))
    assert not _kept(received, _message("b", 8, 2, True))  # joins the one that waits
    assert _kept(received, _message("other", 9, 2, False, 2))
    assert _acknowledged(received) == [7]
    received.done(waiting, True)
    assert _acknowledged(received) == [8]
    received.begin(False)
    assert _kept(received, _message("b", 8, 3, True))


def test_a_broker_that_releases_nothing_is_in_error_after_1000_messages() -> None:
    received = Received()
    for packet_id in range(1, 1001):
        message = _message("", packet_id, qos=2)
        _kept(received, message)
        received.done(message, True)
    late = _message("", 1001, qos=2)
    assert received.is_new(late)
    assert raised("MalformedPacket", received.keep, late).code == 1001
    assert raised("MalformedPacket", received.drop, late).code == 1001
    received.released(1)
    received.keep(late)


class _Story:
    """A device and its broker, which keeps the session; acknowledgements may be lost."""

    def __init__(self, random: Random, alike: bool) -> None:
        self.random = random
        self.alike = alike
        self.received = Received()
        self.connection = 1
        self.in_flight: dict[int, str] = {}  # at the broker, by packet id
        self.waiting: list[Message] = []
        self.on_its_way: list[int] = []  # acknowledgements
        self.written = 0
        self.sent: list[str] = []
        self.handled: list[str] = []

    def send(self) -> None:
        """Have the broker send a new message, under the lowest id that is free."""
        packet_id = min(number for number in range(1, 9) if number not in self.in_flight)
        text = "same" if self.alike else str(len(self.sent))
        self.sent.append(text)
        self.in_flight[packet_id] = text
        if self.random.chance(10):
            self.lose()  # before it arrives: it comes with DUP, and for the first time
        else:
            self._come(_message(text, packet_id, self.connection))

    def _come(self, message: Message) -> None:
        if _kept(self.received, message):
            self.waiting.append(message)

    def handle(self) -> None:
        if self.waiting:
            message = self.waiting.pop(0)
            self.handled.append(message.payload.decode())
            self.received.done(message, True)

    def answer(self) -> None:
        message = self.received.next()
        if message is not None:
            self.written += 1
            self.on_its_way.append(message.packet_id)
            self.received.acknowledged(self.written)

    def arrive(self, confirm: bool) -> None:
        """Let what the device has written arrive; `confirm`: and an answer to something later."""
        while self.on_its_way:
            self.in_flight.pop(self.on_its_way.pop(0), None)
        if confirm:
            self.received.confirmed(self.written)

    def lose(self) -> None:
        """Lose the connection, and part of what was on its way."""
        for _ in range(self.random.below(len(self.on_its_way) + 1)):
            self.in_flight.pop(self.on_its_way.pop(0), None)
        self.on_its_way = []
        self.connection += 1
        self.received.begin(True)
        for packet_id in sorted(self.in_flight):
            self._come(_message(self.in_flight[packet_id], packet_id, self.connection, True))

    def play(self) -> None:
        for _ in range(self.random.between(20, 200)):
            kind = self.random.below(10)
            if kind < 3 and len(self.in_flight) < 8:
                self.send()
            elif kind < 5:
                self.handle()
            elif kind < 7:
                self.answer()
            elif kind < 9:
                self.arrive(self.random.chance(30))
            else:
                self.lose()
        for _ in range(100):
            self.handle()
            self.answer()
            self.arrive(True)
        assert not self.in_flight and not self.waiting and self.received.next() is None


def _once_each(random: Random) -> None:
    story = _Story(random, False)
    story.play()
    assert sorted(story.handled, key=int) == story.sent, "each message once"


def _alike(random: Random) -> None:
    """Messages that cannot be told apart: at most those are left out whose first copy was lost."""
    story = _Story(random, True)
    story.play()
    missing = len(story.sent) - len(story.handled)
    assert missing >= 0
    _counts[0] += len(story.sent)
    _counts[1] += missing


_counts = [0, 0]


def test_whatever_is_lost_on_the_way_each_message_is_handled_once() -> None:
    for_seeds(300, _once_each)


def test_of_messages_all_alike_few_are_taken_for_another_and_none_is_run_twice() -> None:
    for_seeds(300, _alike)
    print("{} messages all alike, {} taken for one that was handled".format(*_counts))
    assert _counts[1] * 10 < _counts[0]
