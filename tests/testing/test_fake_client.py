"""The stand-in for the network: the real client over it behaves as over a broker."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from securemqtt import Client, Message, errors, lifecycle
from securemqtt.outbox.memory import Outbox
from securemqtt.outbox.parking import Parking
from securemqtt.testing import FakeClient, ProgramEnded
from support.network.net import wait_until
from support.speed import seconds

TEMPERATURE = "devices/test-device/temperature"


@pytest.fixture
def client() -> Iterator[FakeClient]:
    made = FakeClient()
    yield made
    made.fake.release_acknowledgements()
    made.disconnect(1)


def _topics(messages: list[Message]) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in messages]


def _subscribed(client: FakeClient, topic_filter: str = "~/command/+", qos: int = 1) -> list[Any]:
    """Subscribe and connect; return the list into which the handler puts what it gets."""
    got: list[Any] = []
    client.subscribe(topic_filter, got.append, qos)
    client.connect()
    return got


# What the program does


def test_what_was_published_can_be_read(client: FakeClient) -> None:
    client.connect()
    client.publish("~/temperature", {"celsius": 21.5})
    client.publish("other/topic", b"\0", qos=0, retain=True)
    client.publish("~/temperature", "2", qos=2)
    first, second, third = client.fake.published
    assert (first.topic, first.json(), first.qos) == (TEMPERATURE, {"celsius": 21.5}, 1)
    assert (second.topic, second.payload, second.qos, second.retain) == (
        "other/topic",
        b"\0",
        0,
        True,
    )
    assert (third.text(), third.qos, third.dup) == ("2", 2, False)
    assert _topics(client.fake.published_on("~/+")) == [
        (TEMPERATURE, b'{"celsius": 21.5}'),
        (TEMPERATURE, b"2"),
    ]


def test_what_was_published_before_the_connection_goes_out_with_it(client: FakeClient) -> None:
    client.publish("~/temperature", 1)
    assert client.fake.published == []
    client.connect()
    assert len(client.fake.published) == 1


def test_more_than_a_window_goes_out(client: FakeClient) -> None:
    client.connect()
    deliveries = [client.publish("~/temperature", number) for number in range(500)]
    assert [message.json() for message in client.fake.published] == list(range(500))
    assert client.flush(seconds(10))
    assert all(delivery.acknowledged for delivery in deliveries)


def test_all_that_waited_is_there_when_it_is_looked_for(client: FakeClient) -> None:
    for number in range(5000):
        client.publish("~/temperature", number)
    client.connect()
    assert len(client.fake.published) == 5000


def test_messages_of_the_library_s_own_are_not_the_program_s(client: FakeClient) -> None:
    client.connect()
    client.disconnect()
    assert client.fake.published == []


def test_acknowledgements_can_be_withheld(client: FakeClient) -> None:
    client.connect()
    client.fake.withhold_acknowledgements()
    deliveries = [client.publish("~/temperature", number) for number in range(3)]
    assert len(client.fake.published) == 3
    assert (client.pending, deliveries[0].acknowledged) == (3, False)
    assert not client.flush(0)
    client.fake.release_acknowledgements(2)
    assert [one.acknowledged for one in deliveries] == [True, True, False]
    client.fake.release_acknowledgements()
    assert client.flush(seconds(10))
    assert deliveries[2].acknowledged


def test_the_window_is_the_client_s() -> None:
    client = FakeClient(window=4)
    client.connect()
    client.fake.withhold_acknowledgements()
    for number in range(10):
        client.publish("~/temperature", number)
    assert len(client.fake.published) == 4
    client.fake.release_acknowledgements(3)
    assert len(client.fake.published) == 7
    client.fake.release_acknowledgements()
    assert len(client.fake.published) == 10
    client.disconnect()


def test_a_full_outbox_is_refused_as_ever(client: FakeClient) -> None:
    client = FakeClient(outbox_messages=2)
    client.publish("~/temperature", 1)
    client.publish("~/temperature", 2)
    with pytest.raises(errors.OutboxFull):
        client.publish("~/temperature", 3)


# What comes


def test_who_waits_for_a_message_that_gives_way_is_woken() -> None:
    client = FakeClient(outbox_messages=1, outbox_full="drop_oldest")
    delivery = client.publish("~/temperature", 1)
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(delivery.wait(seconds(600))))
    thread.start()
    wait_until(lambda: delivery.awaited)
    client.publish("~/temperature", 2)
    thread.join(seconds(60))
    assert outcome == [False] and delivery.dropped
    client.disconnect(0)


def test_a_topic_that_the_rules_allow_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient(may_publish=["devices/+/command/#"])
    looks: list[str] = []
    is_allowed = lifecycle.is_allowed

    def look(connection: Any, topic: str, is_filter: bool) -> bool:
        looks.append(topic)
        return is_allowed(connection, topic, is_filter)

    monkeypatch.setattr(lifecycle, "is_allowed", look)
    for number in range(5):
        client.publish("devices/other/command/interval", number)
    assert len(looks) == 1 and not client.stats["outside"]
    client.publish("elsewhere", 1)
    assert client.stats["outside"] == 1
    client.disconnect(0)


def test_what_the_loop_lets_go_of_meanwhile_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    outbox = client._connection.outbox
    looks: list[object] = []

    def parking(self: object) -> Parking | None:
        looks.append(self)
        return Parking(outbox) if len(looks) % 2 else None  # gone at the second look

    monkeypatch.setattr(Outbox, "parking", property(parking, lambda self, value: None))
    assert client.stats["parked"] == 0
    assert looks


def test_a_message_is_handled_in_poll_and_acknowledged_then(client: FakeClient) -> None:
    got = _subscribed(client)
    client.fake.deliver("~/command/interval", b"5", retain=True)
    assert got == []
    assert client.fake.handled == []
    client.poll()
    (message,) = got
    assert message.topic == "devices/test-device/command/interval"
    assert (message.payload, message.qos, message.retain, message.dup) == (b"5", 1, True, False)
    assert client.fake.handled == [message]


def test_whatever_just_happened_is_there_when_it_is_looked_for(client: FakeClient) -> None:
    got = _subscribed(client)
    for number in range(1, 300):
        client.fake.deliver("~/command/a", number)
        client.poll()
        assert len(got) == number
        assert len(client.fake.handled) == number
        client.publish("~/temperature", number, qos=number % 3)
        assert len(client.fake.published) == number


def test_a_message_is_handled_in_the_caller_s_thread(client: FakeClient) -> None:
    threads = []
    client.subscribe("~/command/+", lambda message: threads.append(threading.current_thread()))
    client.connect()
    client.fake.deliver("~/command/a")
    client.wait(0)
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize(("sent", "granted", "comes"), [(2, 1, 1), (1, 2, 1), (2, 2, 2), (1, 0, 0)])
def test_a_message_comes_with_the_lesser_qos(
    client: FakeClient, sent: int, granted: int, comes: int
) -> None:
    got = _subscribed(client, qos=granted)
    client.fake.deliver("~/command/a", {"n": 1}, qos=sent)
    client.poll()
    assert [(message.qos, message.json()) for message in got] == [(comes, {"n": 1})]
    assert client.fake.handled == (got if comes else [])


def test_a_handler_s_answer_is_published(client: FakeClient) -> None:
    client.subscribe("~/command/+", lambda message: client.publish("~/answer", message.payload))
    client.connect()
    client.fake.deliver("~/command/a", "x")
    client.poll()
    assert _topics(client.fake.published) == [("devices/test-device/answer", b"x")]


def test_a_handler_s_exception_is_reported_and_the_message_acknowledged(
    client: FakeClient,
) -> None:
    failures = []
    client.on_error(failures.append)
    client.subscribe("~/command/+", lambda message: message.json())
    client.connect()
    client.fake.deliver("~/command/a", b"{")
    client.poll()
    assert [type(error).__name__ for error in failures] == ["JSONDecodeError"]
    assert len(client.fake.handled) == 1


def test_what_nobody_would_get_is_a_mistake_of_the_test(client: FakeClient) -> None:
    with pytest.raises(errors.UsageError, match=r"it has none, and the client is closed"):
        client.fake.deliver("~/command/a")
    _subscribed(client)
    with pytest.raises(errors.UsageError, match=r"it has devices/test-device/command/\+, and"):
        client.fake.deliver("~/comand/a")
    with pytest.raises(errors.InvalidTopic):
        client.fake.deliver("~/command/+")
    client.unsubscribe("~/command/+")
    with pytest.raises(errors.UsageError, match="it has none"):
        client.fake.deliver("~/command/a")


def test_subscriptions_can_be_read_and_refused(client: FakeClient) -> None:
    client.fake.refuse_subscription("#")
    client.subscribe("~/command/+", print)
    client.subscribe("#", print, qos=0)
    client.connect()
    assert client.fake.subscriptions == {"devices/test-device/command/+": 1}
    assert isinstance(client.last_error, errors.SubscriptionRefused)


# What happens to the connection


def test_a_connection_is_lost_and_comes_back(client: FakeClient) -> None:
    states: list[str] = []
    client.on_state(states.append)
    client.connect()
    client.fake.fail()
    assert not client.connected
    assert isinstance(client.last_error, errors.ConnectionLost)
    client.publish("~/temperature", 1)
    assert client.fake.published == []
    client.fake.recover()
    assert client.connected
    assert len(client.fake.published) == 1
    client.poll()
    assert states[:4] == ["starting", "connecting", "connected", "waiting"]
    assert states[-1] == "connected"
    assert client.stats["reconnects"] == 1


def _of_all_kinds() -> list[type[errors.SecureMQTTError]]:
    found = [one for one in vars(errors).values() if isinstance(one, type)]
    return [one for one in found if issubclass(one, errors.SecureMQTTError)]


@pytest.mark.parametrize("kind", _of_all_kinds(), ids=lambda kind: kind.__name__)
def test_an_attempt_fails_with_any_error(client: FakeClient, kind: type) -> None:
    client.fake.fail(kind)
    with pytest.raises(kind) as raised:
        client.connect()
    assert type(raised.value) is kind
    assert client.state == "closed"
    client.fake.recover()
    client.connect()
    assert client.connected


def test_an_error_is_passed_on_as_it_is(client: FakeClient) -> None:
    error = errors.NotAuthorised("no", 5, cause="a", remedy="b")
    client.fake.fail(error)
    with pytest.raises(errors.NotAuthorised) as raised:
        client.connect()
    assert (str(raised.value), raised.value.code) == (str(error), 5)
    assert raised.value is not error
    with pytest.raises(errors.UsageError, match="none of securemqtt's errors"):
        client.fake.fail(ValueError("x"))  # type: ignore[arg-type]


def test_it_recovers_at_once_from_what_is_not_transient(client: FakeClient) -> None:
    client.fake.fail(errors.UnknownCA)  # two minutes of back-off at most
    client.start()
    began = time.monotonic()
    client.fake.recover()
    assert client.connected
    assert time.monotonic() - began < seconds(10)


@pytest.mark.parametrize(("qos", "copies"), [(1, 2), (2, 1)])
def test_what_is_in_flight_goes_out_again(client: FakeClient, qos: int, copies: int) -> None:
    client.connect()
    client.fake.withhold_acknowledgements()
    client.publish("~/temperature", 1, qos=qos)
    client.fake.fail()
    client.fake.recover()
    client.publish("~/temperature", 2, qos=qos)
    sent = [(message.payload, message.dup) for message in client.fake.published]
    assert sent == [(b"1", False), *[(b"1", True)] * (copies - 1), (b"2", False)]
    client.fake.release_acknowledgements()
    assert client.flush(seconds(10))


def test_a_lost_session_is_a_new_one(client: FakeClient) -> None:
    got = _subscribed(client)
    client.fake.withhold_acknowledgements()
    client.publish("~/temperature", 1)
    client.fake.fail()
    client.fake.deliver("~/command/a")
    client.fake.recover(session_present=False)
    assert [message.dup for message in client.fake.published] == [False, False]
    assert client.fake.subscriptions == {"devices/test-device/command/+": 1}
    client.poll()
    assert got == []


def test_what_comes_meanwhile_waits_for_the_connection(client: FakeClient) -> None:
    got = _subscribed(client)
    client.fake.fail()
    client.fake.deliver("~/command/a", b"1")
    with pytest.raises(errors.UsageError, match="would be lost"):
        client.fake.deliver("~/command/a", b"2", qos=0)
    client.poll()
    assert got == []
    client.fake.recover()
    client.poll()
    assert [message.payload for message in got] == [b"1"]


def test_what_was_not_handled_comes_again(client: FakeClient) -> None:
    got = _subscribed(client)
    client.fake.deliver("~/command/a", b"1")
    client.fake.fail()
    client.fake.recover()
    client.poll()
    assert len(got) == 1, "its second copy joined the first, which still waited"
    assert client.fake.handled == got


def test_a_clean_session_is_not_kept() -> None:
    client = FakeClient(clean_session=True)
    got = _subscribed(client)
    client.fake.fail()
    with pytest.raises(errors.UsageError, match="it has none"):
        client.fake.deliver("~/command/a")
    client.fake.recover()
    client.fake.deliver("~/command/a")
    client.poll()
    assert len(got) == 1
    client.disconnect()


def test_a_client_that_left_comes_back_to_its_session(client: FakeClient) -> None:
    got = _subscribed(client)
    client.disconnect()
    client.fake.deliver("~/command/a")
    client.connect()
    client.fake.settle()
    client.poll()
    assert len(got) == 1


# Programs


def _report_for_ever(client: Client) -> None:
    """Report as a device does."""
    interval = [30.0]
    client.subscribe("~/command/interval", lambda message: interval.append(message.json()))
    with client:
        while True:
            client.publish("~/interval", interval[-1])
            client.wait(interval[-1])


def test_a_program_that_runs_for_ever_is_ended(client: FakeClient) -> None:
    def before(number: int) -> None:
        if number == 2:
            client.fake.deliver("~/command/interval", 3600)

    client.fake.end_after(4, before)
    with pytest.raises(ProgramEnded):
        _report_for_ever(client)
    assert client.state == "closed"
    said = [message.json() for message in client.fake.published_on("~/interval")]
    assert said == [30.0, 30.0, 3600, 3600, 3600]


def test_run_forever_is_ended(client: FakeClient) -> None:
    got = _subscribed(client)
    client.fake.deliver("~/command/a")
    client.fake.end_after(1)
    with pytest.raises(KeyboardInterrupt):
        client.run_forever()
    assert len(got) == 1


def test_numbers_out_of_range_are_refused_with_the_range(client: FakeClient) -> None:
    client.connect()
    fake, nan = client.fake, float("nan")
    calls: tuple[Callable[[Any], object], ...] = (
        fake.end_after,
        lambda count: fake.release_acknowledgements(count or "none"),
        fake.wait_for_published,
    )
    for call in calls:
        for count in (-1, nan, None, True, 1.0, "1", 1 << 70):
            with pytest.raises(
                errors.UsageError, match=r"a whole number from 0 to 1000000000, not"
            ):
                call(count)
    for timeout_s in (nan, None, True, "1", float("inf"), 1 << 70):
        with pytest.raises(errors.UsageError, match="timeout_s must be a number of seconds up to"):
            fake.wait_for_published(timeout_s=timeout_s)  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        fake.wait_for_published(timeout_s=-1)
    with pytest.raises(errors.UsageError, match="before must be a function or None, not 5"):
        fake.end_after(1, 5)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError, match="is none of securemqtt's errors"):
        fake.fail(int)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError, match="session_present must be True or False"):
        fake.recover(0)  # type: ignore[arg-type]
    client.wait(0)  # the program goes on as before
    fake.end_after(0)
    with pytest.raises(ProgramEnded):
        client.wait(0)


def test_a_program_in_a_thread(client: FakeClient) -> None:
    stop = threading.Event()

    def run() -> None:
        with client:
            while not stop.is_set():
                client.publish("~/temperature", 1)
                client.wait(0.01)

    program = threading.Thread(target=run)
    program.start()
    try:
        assert len(client.fake.wait_for_published(3, "~/temperature")) >= 3
        with pytest.raises(TimeoutError, match="0 of 1 messages on devices/test-device/pressure"):
            client.fake.wait_for_published(1, "~/pressure", timeout_s=0)
    finally:
        stop.set()
        program.join()


class _Greenhouse(Client):
    """A user's own kind of client."""

    def __init__(self, plants: list[str], **options: Any) -> None:
        super().__init__(**options)
        self.plants = plants
        self.waited: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        super().wait(seconds)

    def report(self) -> None:
        self.publish("~/plants", self.plants)


class _FakeGreenhouse(FakeClient, _Greenhouse):
    """The stand-in for it."""


def test_a_subclass_of_client_can_be_stood_in_for() -> None:
    client = _FakeGreenhouse(["fern"], client_id="greenhouse-1")
    with client:
        client.report()
        client.wait(0)
        assert _topics(client.fake.published) == [("devices/greenhouse-1/plants", b'["fern"]')]
    assert client.waited == [0]


# It is not the real thing, and the real thing is never it


def test_it_takes_the_options_of_client_and_checks_them(tmp_path: Path) -> None:
    client = FakeClient("/secure", client_id="a", keep_alive_s=5, host="mqtt.local", key="none")
    assert client.client_id == "a"
    with pytest.raises(
        errors.UsageError, match="no option 'keep_alive'; the nearest is keep_alive_s"
    ):
        FakeClient(keep_alive=5)
    with pytest.raises(errors.UsageError, match="port must be"):
        FakeClient(port=0)
    durable = FakeClient(outbox="durable", outbox_dir=str(tmp_path))
    durable.connect()
    durable.publish("~/temperature", 1)
    assert durable.flush(seconds(10))
    durable.disconnect()


def test_it_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "securemqtt"):
        client = FakeClient()
        client.connect()
        client.disconnect()
    assert repr(client) == "<FakeClient test-device: a stand-in for tests>"
    assert "test-device is a stand-in for tests: nothing leaves this process" in caplog.text
    assert "connected to fake.invalid:8883" in caplog.text


@pytest.mark.parametrize("option", ["link", "make_link", "fake", "testing", "verify", "insecure"])
def test_no_option_of_client_leads_to_it(option: str) -> None:
    with pytest.raises(errors.UsageError, match=f"Client has no option '{option}'"):
        Client(host="localhost", client_id="a", **{option: FakeClient})


def test_it_opens_no_socket() -> None:
    """By the interpreter's own account, in a process of its own."""
    program = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event))
from securemqtt.testing import FakeClient
del seen[:]
with FakeClient() as client:
    client.publish("~/a", 1)
    assert client.flush(10)
    assert len(client.fake.published) == 1
print([event for event in seen if event.startswith(("socket.", "subprocess.", "ssl."))])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_importing_it_imports_neither_the_tools_nor_pytest() -> None:
    program = """
import sys
import securemqtt
assert "securemqtt.testing" not in sys.modules
import securemqtt.testing
print([name for name in sys.modules if name.startswith(("securemqtt_tools", "pytest", "_pytest"))])
print([name for name in ("cryptography", "amqtt") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n[]\n"), done.stderr


def test_a_message_can_be_made_for_a_handler() -> None:
    message = Message("a/b", b"x")
    assert (message.topic, message.text(), message.qos, message.retain) == ("a/b", "x", 0, False)
