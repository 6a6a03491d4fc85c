"""What Client does with what its program gives it, and with what waits for its handlers; over a
connection in memory, see support/models/history.py.
"""

from securemqtt.platform import INBOX_BYTES
from support.interpreters.either import raised
from support.models.history import History

_ALL = 1 << 30


def _connected() -> History:
    """Return a device at rest, connected."""
    history = History(1)
    history.come_to_rest()
    return history


def _flood(history: History, count: int, qos: int = 0) -> int:
    """Send the device messages while its program does not run its handlers; return how many its
    handlers got when they ran.
    """
    before = len(history.handled)
    for _ in range(count):
        history.send_down(qos)
        history.carry(_ALL, _ALL)
        history.client.flush(0)
    assert len(history.handled) == before
    history.client.poll()
    return len(history.handled) - before


def test_poll_runs_the_handlers_for_all_that_is_there() -> None:
    history = _connected()
    try:
        assert _flood(history, 20) == 20
    finally:
        history.close()


def test_what_waits_for_its_handlers_is_bounded_and_what_is_dropped_is_counted() -> None:
    history = _connected()
    try:
        dropped = history.client.stats["dropped"]
        handled = _flood(history, 1100)
        assert handled <= min(1000, INBOX_BYTES // 128)
        assert handled >= 100
        assert history.client.stats["dropped"] - dropped == 1100 - handled
    finally:
        history.close()


def test_messages_of_qos_1_are_not_dropped_for_their_bytes() -> None:
    history = _connected()
    try:
        acknowledged = history.broker.acknowledged
        for qos in (0,) * 300 + (1,) * 5:
            history.send_down(qos)
        history.carry(_ALL, _ALL)
        for _ in range(20):
            history.client.flush(0)
        assert history.broker.acknowledged == acknowledged
        history.come_to_rest()
        assert history.broker.acknowledged >= acknowledged + 5
    finally:
        history.close()


def test_wait_serves_the_network_however_short_it_is() -> None:
    history = History(1)
    try:
        for _ in range(20):
            history.client.wait(0)
            history.carry(_ALL, _ALL)
        assert history.client.connected
    finally:
        history.close()


def test_mistakes_in_a_publish_are_told_at_once() -> None:
    history = _connected()
    try:
        client = history.client
        for topic in (
            "",
            "+",
            "a/#",
            "a\0",
            "a\n",
            "a\x7f",
            "a\x85",
            "a/" + chr(0xD800),
            "x/+" * 6000,
        ):
            raised("InvalidTopic", client.publish, topic, b"")
        nested = []
        for _ in range(5000):
            nested = [nested]
        for payload in (object(), {1}, nested):
            raised("InvalidPayload", client.publish, "a", payload)
        for number in ("nan", "inf", "-inf"):
            for payload in (float(number), {"x": float(number)}, [{"x": (float(number),)}]):
                raised("InvalidPayload", client.publish, "a", payload)
        for topic in (None, b"a", 7):
            raised("InvalidTopic", client.publish, topic, b"")
        for qos in (-1, 3, 1.0, 1.5, "1", None):
            raised("UsageError", client.publish, "a", b"", qos)
        raised("MessageTooLarge", client.publish, "a", bytes(5000))
        for topic_filter in ("", "a/#/b", "a+", "\0"):
            raised("InvalidTopic", client.subscribe, topic_filter, print)
            raised("InvalidTopic", client.unsubscribe, topic_filter)
        raised("UsageError", client.subscribe, "a", print, 3)
        assert client.pending == 0
        assert client.connected
    finally:
        history.close()


def test_a_handler_that_fails_is_reported_and_the_others_run() -> None:
    history = _connected()
    try:
        failures = []
        history.client.on_error(failures.append)

        def fail(message: object) -> None:
            raise KeyError("of a test")

        history.client.subscribe("c/+", fail)
        history.filters.add("c/+")
        history.come_to_rest()
        assert failures
        assert all(isinstance(failure, KeyError) for failure in failures)
    finally:
        history.close()


def test_an_on_error_that_fails_is_reported_and_the_message_acknowledged() -> None:
    history = _connected()
    try:

        def fail(what: object) -> None:
            raise KeyError("of a test")

        history.client.on_error(fail)
        history.client.subscribe("c/+", fail)
        history.filters.add("c/+")
        acknowledged = history.broker.acknowledged
        history.send_down(1)
        history.come_to_rest()
        assert history.broker.acknowledged > acknowledged
        assert history.client.connected
    finally:
        history.close()


def test_the_first_publish_is_checked_as_any_other() -> None:
    history = History(1)
    try:
        for topic in ("", None, (), 0):
            raised("InvalidTopic", history.client.publish, topic, b"")
        assert history.client.pending == 0
        assert history.client.publish("~", b"").topic == "devices/d"
        assert history.client.publish("~/x", b"").topic == "devices/d/x"
    finally:
        history.close()


def test_a_message_whose_handler_is_interrupted_is_not_acknowledged_and_comes_again() -> None:
    history = _connected()
    try:
        handled = []
        interrupts = []

        def interrupted(message: object) -> None:
            handled.append(message.payload)
            if interrupts:
                raise interrupts.pop()
            history.handled.append(message.payload)

        history.client.subscribe("c/x", interrupted)
        history.come_to_rest()
        handled.clear()
        interrupts.append(KeyboardInterrupt())
        acknowledged = history.broker.acknowledged
        history.send_down(1)
        history.carry(_ALL, _ALL)
        try:
            while not handled:
                history.client.poll()
        except KeyboardInterrupt:
            handled.append(b"interrupted")
        history.client.flush(0)
        history.carry(_ALL, _ALL)
        assert history.broker.acknowledged == acknowledged
        history.client.poll()
        assert len(handled) == 3 and handled[1] == b"interrupted" and handled[0] == handled[2]
        history.client.flush(0)
        history.carry(_ALL, _ALL)
        assert history.broker.acknowledged == acknowledged + 1
    finally:
        history.close()
