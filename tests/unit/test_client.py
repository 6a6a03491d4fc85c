"""What Client does with what its program gives it, and with what waits for its handlers; over a
connection in memory, see support/models/history.py.
"""

from securemqtt import inbox, log_to
from securemqtt.messages import Message
from securemqtt.platform import INBOX_BYTES, INBOX_QOS0_BYTES
from securemqtt.queues import Desk, Queue
from support.interpreters.either import MICROPYTHON, raised
from support.models.history import MAX_PACKET_BYTES, History

_ALL = 1 << 30
_SUBACK, _UNSUBACK = 0x90, 0xB0


def _connected(max_packet_bytes: int = MAX_PACKET_BYTES) -> History:
    """Return a device at rest, connected."""
    history = History(1, max_packet_bytes=max_packet_bytes)
    history.come_to_rest()
    return history


def _flood(history: History, count: int, qos: int = 0, size: int = 0) -> int:
    """Send the device messages while its program does not run its handlers; return how many its
    handlers got when they ran.
    """
    before = len(history.handled)
    for _ in range(count):
        history.send_down(qos, size)
        history.carry(_ALL, _ALL)
        history.client.flush(0)
    assert len(history.handled) == before
    history.client.poll()
    return len(history.handled) - before


def _wait_in_inbox(history: History, count: int) -> None:
    """Have so many messages wait for their handlers."""
    for _ in range(count):
        history.send_down(1)
    history.carry(_ALL, _ALL)
    history.client.flush(0)


def _asked(history: History) -> "list[int]":
    """Bring up what the device asks for; return what the broker will answer, by first byte."""
    history.turn()
    history.carry(_ALL, _ALL)
    return [answer[0] for answer, _ in history.broker.waiting if answer[0] & 0xF0 in (0x90, 0xB0)]


def _answered(history: History, count: int) -> None:
    """Have the broker answer the first few of what it was asked."""
    for _ in range(count):
        history.answer(0)
    history.carry(_ALL, _ALL)
    history.turn()


def _reconnected(history: History) -> "list[int]":
    """Lose the connection and have it made again; return what is asked for on the new one."""
    history.lose(0)
    history.turn()
    for _ in range(20):
        if history.client.connected:
            break
        history.pass_time(1000)
        history.turn()
        history.carry(_ALL, _ALL)
    assert history.client.connected
    return _asked(history)


def test_poll_runs_the_handlers_for_all_that_is_there() -> None:
    with _connected() as history:
        assert _flood(history, 20) == 20


def test_what_waits_of_qos_0_is_bounded_and_the_newest_is_dropped_counted_and_told_once() -> None:
    history = _connected(INBOX_BYTES)
    told = []
    log_to(lambda level, text: told.append(text) if "are dropped" in text else None)
    try:
        size = INBOX_QOS0_BYTES // 40
        first = len(history.handled)
        handled = _flood(history, 100, size=size)
        assert 20 < handled <= 40
        numbers = [int(payload.rstrip(b".")) for payload in history.handled[first:]]
        assert numbers == list(range(numbers[0], numbers[0] + handled))
        stats = history.client.stats
        assert stats["dropped_in"] == 100 - handled and stats["dropped"] == 0
        assert len(told) == 1
        assert _flood(history, 100, size=size) == handled
        assert len(told) == 2
    finally:
        log_to(None)
        history.close()


def test_what_is_too_much_of_qos_1_is_left_to_the_broker_and_comes_on_the_next_connection() -> None:
    with _connected(INBOX_BYTES) as history:
        size = INBOX_BYTES // 4
        received, acknowledged = history.client.stats["received"], history.broker.acknowledged
        for _ in range(9):
            history.send_down(1, size)
        for _ in range(100):
            history.carry(_ALL, _ALL)
            history.client.flush(0)
        stats = history.client.stats
        assert stats["received"] - received == 3 and stats["catch_ups"] == 0
        assert history.broker.acknowledged == acknowledged
        assert _flood(history, 5) == 3 + 5  # QoS 0 has room of its own
        history.come_to_rest()
        stats = history.client.stats
        assert stats["catch_ups"] >= 1 and stats["failures"] == 0
        assert stats["dropped_in"] == stats["not_run_again"] == 0
        ones = [int(text.rstrip(b".")) for text in history.handled if text.endswith(b".")]
        assert ones == sorted(ones) and len(ones) == 9, "each once, and in order"


def test_what_is_too_much_in_a_clean_session_is_dropped_acknowledged_and_counted_each() -> None:
    history = History(1, max_packet_bytes=INBOX_BYTES, clean_session=True)
    told = []
    log_to(lambda level, text: told.append(text) if "are dropped" in text else None)
    try:
        history.come_to_rest()
        before, acknowledged = history.client.stats, history.broker.acknowledged
        handled = _flood(history, 9, 1, INBOX_BYTES // 4)
        for _ in range(20):
            history.turn()
            history.carry(_ALL, _ALL)
        stats = history.client.stats
        assert handled == 3 and stats["received"] - before["received"] == 3
        assert stats["dropped_in"] == 9 - 3
        assert history.broker.acknowledged - acknowledged == 9
        assert stats["catch_ups"] == 0 and stats["connects"] == before["connects"]
        assert len(told) == 1
        assert _flood(history, 3, 1, INBOX_BYTES // 4) == 3, "then there is room again"
    finally:
        log_to(None)
        history.close()


def test_messages_of_qos_1_are_not_dropped_for_those_of_qos_0() -> None:
    with _connected() as history:
        acknowledged = history.broker.acknowledged
        for qos in (0,) * 300 + (1,) * 5:
            history.send_down(qos)
        history.carry(_ALL, _ALL)
        for _ in range(20):
            history.client.flush(0)
        assert history.broker.acknowledged == acknowledged
        history.come_to_rest()
        assert history.broker.acknowledged >= acknowledged + 5


def test_handlers_run_in_the_order_in_which_messages_came() -> None:
    with _connected() as history:
        before = len(history.handled)
        received = history.client.stats["received"]
        _wait_in_inbox(history, 4)
        first = int(history.handled[-1]) + 1
        history.client.poll()
        assert history.handled[before:] == [str(first + number).encode() for number in range(4)]
        assert history.client.stats["received"] == received + 4


def test_poll_ends_though_each_handler_brings_another_message() -> None:
    with _connected() as history:
        handled = []

        def bring(message: object) -> None:
            handled.append(message.payload)
            history.handled.append(message.payload)
            if len(handled) < 10:
                _wait_in_inbox(history, 1)

        history.client.subscribe("c/x", bring)
        history.turn()
        _wait_in_inbox(history, 2)
        history.client.poll()
        assert len(handled) == 2
        history.client.poll()
        assert len(handled) == 4


def test_wait_runs_one_handler_at_least_and_none_after_its_time() -> None:
    with _connected() as history:
        handled = []

        def slow(message: object) -> None:
            handled.append(message.payload)
            history.handled.append(message.payload)
            history.pass_time(400)

        history.client.subscribe("c/x", slow)
        history.turn()
        _wait_in_inbox(history, 6)
        history.client.wait(0)
        assert len(handled) == 1
        history.client.wait(1)
        assert len(handled) == 4
        history.client.wait(0.4)
        assert len(handled) == 5


def test_a_handler_that_polls_has_its_turn_to_itself() -> None:
    with _connected() as history:
        steps = []

        def polling(message: object) -> None:
            steps.append("begin")
            history.client.poll()
            history.handled.append(message.payload)
            steps.append("end")

        history.client.subscribe("c/x", polling)
        history.turn()
        _wait_in_inbox(history, 2)
        history.client.poll()
        assert steps == ["begin", "end"] * 2


def test_changes_of_state_are_told_in_their_order_and_before_messages() -> None:
    with _connected() as history:
        told = []
        history.client.on_state(told.append)
        history.client.subscribe("c/x", lambda message: told.append("message"))
        history.lose(0)
        for _ in range(20):
            history.client.flush(0)
            history.pass_time(1000)
            history.carry(_ALL, _ALL)
            if history.client.connected:
                break
        _wait_in_inbox(history, 1)
        assert told == []
        history.client.poll()
        assert told == ["waiting", "connecting", "connected", "message"]
        history.client.on_state(None)
        history.lose(0)
        history.client.poll()
        assert history.client.state == "waiting"
        assert len(told) == 4


def test_a_message_above_the_limit_is_counted_and_acknowledged_and_not_handled() -> None:
    with _connected() as history:
        handled = len(history.handled)
        oversized = history.client.stats["oversized"]
        acknowledged = history.broker.acknowledged
        for qos in (0, 1, 2):
            history.broker.publish(qos, "x" * MAX_PACKET_BYTES)
            for _ in range(3):
                history.carry(_ALL, _ALL)
                history.turn()
        history.carry(_ALL, _ALL)
        assert history.client.stats["oversized"] == oversized + 3
        assert history.broker.acknowledged == acknowledged + 2
        assert not history.broker.outgoing
        assert len(history.handled) == handled


def test_what_is_granted_is_asked_for_again_only_where_the_broker_has_forgotten_it() -> None:
    with _connected() as history:
        history.subscribe(0)
        history.filters.add("c/1")
        history.client.subscribe("c/1", print, 0)
        history.come_to_rest()
        assert history.client.last_error is None
        assert _reconnected(history) == []
        history.broker.session = False
        assert _reconnected(history) == [_SUBACK] * 3
        history.come_to_rest()
        assert _reconnected(history) == []


def test_what_is_not_granted_yet_is_asked_for_again_in_the_same_session() -> None:
    with _connected() as history:
        history.subscribe(0)
        assert _asked(history) == [_SUBACK]
        assert _reconnected(history) == [_SUBACK]
        history.unsubscribe(0)
        assert _asked(history) == [_SUBACK, _UNSUBACK]
        assert _reconnected(history) == [_UNSUBACK]
        history.come_to_rest()
        assert _reconnected(history) == []
        history.broker.session = False
        assert _reconnected(history) == [_SUBACK]  # for c/x
        history.come_to_rest()


def test_only_the_answer_to_the_last_request_counts() -> None:
    with _connected() as history:
        history.client.subscribe("c/0", print, 0)
        history.subscribe(0)
        assert _asked(history) == [_SUBACK] * 2
        _answered(history, 1)
        assert _reconnected(history) == [_SUBACK]
        _answered(history, 1)
        history.unsubscribe(0)
        history.subscribe(0)
        history.unsubscribe(0)
        history.subscribe(0)
        assert _asked(history) == [_UNSUBACK, _SUBACK] * 2
        _answered(history, 3)
        assert _reconnected(history) == [_SUBACK]
        _answered(history, 1)
        assert _reconnected(history) == []
        history.come_to_rest()


def test_a_subscription_made_again_before_its_end_is_confirmed_has_its_handler() -> None:
    with _connected() as history:
        handled = []
        history.client.unsubscribe("c/x")
        history.client.subscribe("c/x", handled.append)
        assert _asked(history) == [_UNSUBACK, _SUBACK]
        _answered(history, 1)
        history.send_down(0)
        history.carry(_ALL, _ALL)
        history.turn()
        assert len(handled) == 1
        _answered(history, 1)
        history.send_down(0)
        history.carry(_ALL, _ALL)
        history.turn()
        assert len(handled) == 2


def test_a_refused_subscription_is_told_and_asked_for_on_the_next_connection() -> None:
    with _connected() as history:
        history.subscribe(0)
        assert _asked(history) == [_SUBACK]
        granted, packet_id = history.broker.waiting[0]
        history.broker.waiting[0] = granted[:-1] + b"\x80", packet_id
        _answered(history, 1)
        error = history.client.last_error
        assert type(error).__name__ == "SubscriptionRefused"
        assert "c/0" in str(error)
        assert history.client.connected
        assert _reconnected(history) == [_SUBACK]
        history.come_to_rest()
        assert _reconnected(history) == []


def test_wait_serves_the_network_however_short_it_is() -> None:
    with History(1) as history:
        for _ in range(20):
            history.client.wait(0)
            history.carry(_ALL, _ALL)
        assert history.client.connected


def test_mistakes_in_a_publish_are_told_at_once() -> None:
    with _connected() as history:
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


def test_a_handler_that_fails_is_reported_and_the_others_run() -> None:
    with _connected() as history:
        failures, logged = [], []
        log_to(lambda level, text: logged.append(text))
        history.client.on_error(failures.append)

        def fail(message: object) -> None:
            raise KeyError("of a test")

        history.client.subscribe("c/+", fail)
        history.filters.add("c/+")
        history.come_to_rest()
        assert failures
        assert all(isinstance(failure, KeyError) for failure in failures)
        assert len([text for text in logged if "KeyError" in text]) == len(failures)


def test_an_on_error_that_fails_is_reported_and_the_message_acknowledged() -> None:
    with _connected() as history:
        logged = []
        log_to(lambda level, text: logged.append(text))

        def fail(what: object) -> None:
            raise IndexError if isinstance(what, KeyError) else KeyError

        history.client.on_error(fail)
        history.client.subscribe("c/+", fail)
        history.filters.add("c/+")
        acknowledged = history.broker.acknowledged
        history.send_down(1)
        history.come_to_rest()
        assert history.broker.acknowledged > acknowledged
        assert history.client.connected
        for name in ("KeyError", "IndexError"):
            assert [text for text in logged if name in text], name


def test_the_first_publish_is_checked_as_any_other() -> None:
    with History(1) as history:
        for topic in ("", None, (), 0):
            raised("InvalidTopic", history.client.publish, topic, b"")
        assert history.client.pending == 0
        assert history.client.publish("~", b"").topic == "devices/d"
        assert history.client.publish("~/x", b"").topic == "devices/d/x"


def test_a_message_whose_handler_is_interrupted_is_not_acknowledged_and_comes_again() -> None:
    with _connected() as history:
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
        for _ in range(3):
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
        assert handled[1] == b"interrupted" and handled[0] == handled[2]
        first = int(handled[2])  # what came behind it is still behind it
        assert [int(payload) for payload in handled[2:]] == [first, first + 1, first + 2]
        history.client.flush(0)
        history.carry(_ALL, _ALL)
        assert history.broker.acknowledged == acknowledged + 3


def test_where_memory_runs_out_amid_matching_nothing_is_lost() -> None:
    with _connected() as history:
        acknowledged = history.broker.acknowledged
        _wait_in_inbox(history, 3)
        before = len(history.handled)
        matches = inbox.matches

        def exhausted(*arguments: object) -> bool:
            inbox.matches = matches
            raise MemoryError

        inbox.matches = exhausted
        raised("MemoryError", history.client.poll)
        assert len(history.handled) == before
        history.client.poll()
        numbers = [int(payload) for payload in history.handled[before:]]
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
        history.client.flush(0)
        history.carry(_ALL, _ALL)
        assert history.broker.acknowledged == acknowledged + 3


def test_where_memory_runs_out_as_a_message_comes_it_is_taken_when_it_comes_again() -> None:
    class ShortList(list):
        def append(self, item: object) -> None:
            raise MemoryError

    class ShortDict(dict):
        def __setitem__(self, key: object, value: object) -> None:
            raise MemoryError

    with _connected() as history:
        inbox_ = history.client._connection.make_inbox()
        received = inbox_._received
        for qos in (1, 2):
            for short in range(3):
                packet_id = 1000 + 10 * qos + short
                if short == 0:
                    inbox_.messages = ShortList()
                elif short == 1:
                    received._arrived = ShortList()
                else:
                    received._open = ShortDict()
                lost = Message("c/x", b"1", qos, False, False, packet_id, 1)
                raised("MemoryError", inbox_.received, lost)
                # It ends the connection.
                inbox_.messages = list(inbox_.messages)
                received._open = dict(received._open)
                inbox_.begin(True)
                assert inbox_.messages == []
                again = Message("c/x", b"1", qos, False, True, packet_id, 2)
                inbox_.received(again)
                assert inbox_.messages == [again]
                inbox_.messages = []
                inbox_.acknowledge(again)
                assert received.next() is again


def test_where_memory_runs_out_in_a_queue_the_message_is_brought_again() -> None:
    with _connected() as history:
        connection = history.client._connection
        desk = Desk(connection)
        queue = Queue(desk)
        taken = desk.take_in

        def exhausted(message: Message) -> bool:
            desk.take_in = taken
            raise MemoryError

        desk.take_in = exhausted
        connection.make_inbox().queues = True
        subscription = connection.make_inbox().subscriptions["c/x"]
        subscription.handler, subscription.later = queue.take_in, True
        _wait_in_inbox(history, 1)
        raised("MemoryError", history.client.poll)
        assert not queue.ready()
        history.client.poll()
        assert queue.ready()


def test_a_command_runs_once_though_an_attempt_in_between_saw_no_answer() -> None:
    with _connected() as history:
        before = len(history.handled)
        history.send_down(1)
        history.carry(0, _ALL)
        history.client.flush(0)
        history.client.poll()  # handled, and the acknowledgement is not written yet
        assert len(history.handled) == before + 1
        history.lose(0)
        history.turn()
        while history.client.state != "connecting":
            history.pass_time(1000)
            history.turn()
        history.lose_answers(False)  # CONNACK for one: the session is in doubt
        history.turn()
        assert not history.client.connected
        history.come_to_rest()
        assert history.handled.count(history.handled[before]) == 1
        assert history.client.stats["not_run_again"] == 1


def test_a_handler_that_leaves_is_the_last_one_of_run_forever() -> None:
    with _connected() as history:
        handled = []

        def leaving(message: object) -> None:
            handled.append(message.payload)
            history.client.disconnect(0)

        history.client.subscribe("c/x", leaving)
        _asked(history)
        _answered(history, 1)
        _wait_in_inbox(history, 5)
        history.client.run_forever()
        assert len(handled) == 1


if not MICROPYTHON:
    import sys
    from pathlib import Path

    def test_ctrl_c_at_any_line_of_handing_out_loses_no_message_and_no_handler() -> None:
        """Not where a lock is taken or given back: there CPython itself sees to it."""
        with _connected() as history:
            source = Path(inbox.__file__).read_text().splitlines()
            acknowledged = history.broker.acknowledged
            handled = len(set(history.handled))
            interrupted = 0
            while True:
                left = interrupted

                def trace(frame: object, event: str, arg: object) -> object:
                    nonlocal left
                    if not frame.f_code.co_filename.endswith("inbox.py"):
                        return None
                    line = source[frame.f_lineno - 1].strip()
                    if event == "line" and not line.startswith(("with ", "finally", "except")):
                        if not left:
                            sys.settrace(None)
                            left = -1
                            raise KeyboardInterrupt
                        left -= 1
                    return trace

                _wait_in_inbox(history, 2)
                before = sys.gettrace()
                sys.settrace(trace)
                try:
                    history.client.poll()
                except KeyboardInterrupt:
                    interrupted += 1
                else:
                    break
                finally:
                    sys.settrace(before)
                history.client.poll()
                history.client.flush(0)
                history.carry(_ALL, _ALL)
                history.client.poll()
                assert len(set(history.handled)) == handled + 2 * interrupted, interrupted
                assert history.broker.acknowledged == acknowledged + 2 * interrupted, interrupted
                # Between two lines: one message too few does no harm, one too many would stay.
                assert history.client._connection.inbox._bytes <= 0
            assert interrupted > 20
