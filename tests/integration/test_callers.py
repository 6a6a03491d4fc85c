"""Forks, signal handlers and the end of a program, as ordinary programs on a computer have them,
against the real Mosquitto.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from securemqtt import Client
from securemqtt.platform.cpython import Lock, Loop
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.network.net import free_port, wait_until
from support.speed import seconds

PROGRAM = Path(__file__).parent / "programs" / "callers.py"
RUN_S = seconds(60)
OUTBOXES = ("ram", "durable")

_numbers = itertools.count()


class Observer:
    """What has arrived under a device's topics."""

    def __init__(self, bundle: Path, device_id: str) -> None:
        self.arrived: Counter[tuple[str, bytes]] = Counter()
        self.client = Client(str(bundle), status=False, clean_session=True)
        self._topic = f"devices/{device_id}"
        self.client.subscribe(f"{self._topic}/#", self._note)
        self.client.connect()
        subscriptions = self.client._connection.make_inbox().subscriptions.values()
        wait_until(lambda: all(one.granted for one in subscriptions))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._done.is_set():
            self.client.wait(0.1)

    def close(self) -> None:
        self._done.set()
        self._thread.join(RUN_S)
        self.client.disconnect()

    def _note(self, message: object) -> None:
        self.arrived[message.topic.removeprefix(f"{self._topic}/"), message.payload] += 1

    def of(self, name: str, total: int) -> list[bytes]:
        """Return the payloads on one topic, once so many have come, and what may have come after
        them.
        """

        def there() -> bool:
            return sum(n for (topic, _), n in list(self.arrived.items()) if topic == name) >= total

        wait_until(there, what=f"{total} on {name}")
        # The broker hands out in order, so one too many would come before this.
        last = "command/last", secrets.token_bytes(8)
        self.client.publish(f"{self._topic}/{last[0]}", last[1])
        wait_until(lambda: last in self.arrived, what="the last message")
        arrived = list(self.arrived.items())
        return list(Counter({key[1]: n for key, n in arrived if key[0] == name}).elements())


@pytest.fixture
def device(authority: Authority, broker: BrokerProcess, tmp_path: Path) -> Path:
    return write_bundle(
        tmp_path / "device", authority, f"callers-{next(_numbers)}", port=broker.port
    )


@pytest.fixture
def observer(
    authority: Authority, broker: BrokerProcess, tmp_path: Path, device: Path
) -> Iterator[Observer]:
    controller = write_bundle(tmp_path / "controller", authority, "controller", port=broker.port)
    observer = Observer(controller, Client(str(device)).client_id)
    yield observer
    observer.close()


def play(device: Path, part: str, outbox: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a part of the program to its end, with options for the interpreter."""
    # Since CPython 3.12 a fork with threads is warned of; these do that on purpose.
    quiet = ("-W", "ignore:This process:DeprecationWarning")
    command = [sys.executable, *quiet, *options, str(PROGRAM), str(device), part, outbox]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done


@pytest.mark.parametrize("outbox", OUTBOXES)
def test_a_child_cannot_touch_what_its_parent_has_published(
    device: Path, observer: Observer, outbox: str
) -> None:
    done = play(device, "fork_offline", outbox)
    assert done.stderr == ""
    assert sorted(map(int, observer.of("number", 50))) == list(range(50))


@pytest.mark.parametrize("outbox", OUTBOXES)
def test_a_child_that_leaves_its_parents_block_says_nothing(
    device: Path, observer: Observer, outbox: str
) -> None:
    done = play(device, "fork_connected", outbox)
    assert done.stderr == ""
    assert sorted(map(int, observer.of("number", 50))) == list(range(50))
    assert observer.of("status", 2) == [b"online", b"offline"]


def test_a_child_forked_in_a_handler_ends_as_it_wants(device: Path, observer: Observer) -> None:
    done = play(device, "fork_in_handler", "ram")
    assert done.stderr == ""
    assert observer.of("command/fork", 1) == [b""]


def test_a_child_that_lives_on_does_not_keep_the_outbox(device: Path) -> None:
    command = [sys.executable, str(PROGRAM), str(device), "orphan", "durable"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline().split()[1])
    try:
        assert parent.wait(RUN_S) == -signal.SIGKILL
        client = Client(str(device), outbox="durable")
        client.connect()
        client.disconnect()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a program was told of undelivered messages when it ended."""
    return re.findall(r"the program ends, and (\d+) messages are not ack.*flush\(\)", done.stderr)


@pytest.mark.parametrize("outbox", OUTBOXES)
def test_a_program_that_ends_too_early_is_told_so(device: Path, outbox: str) -> None:
    done = play(device, "end", outbox)
    assert told(done) == ["2"]
    assert ("lost" in done.stderr) == (outbox == "ram")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("outbox", OUTBOXES)
def test_a_program_that_has_waited_for_its_messages_is_told_nothing(
    device: Path, outbox: str
) -> None:
    done = play(device, "end_flushed", outbox)
    assert done.stderr == ""


def test_a_program_that_has_left_in_order_is_told_once(
    tmp_path: Path, authority: Authority
) -> None:
    device = write_bundle(
        tmp_path / "device", authority, f"callers-{next(_numbers)}", port=free_port()
    )
    done = play(device, "end_disconnected", "ram")
    assert told(done) == []
    assert "leaving with 1 messages undelivered" in done.stderr


@pytest.mark.parametrize("outbox", OUTBOXES)
def test_signals_and_threads_publish_at_any_time(
    device: Path, observer: Observer, outbox: str
) -> None:
    # Slower, so that more of them strike amid the client's own work: this hung within seconds where
    # it was told by a count who has the lock.
    done = play(device, "signals", outbox, "-X", "dev")
    counts = re.search(r"^counts (\d+) (\d+) (\d+)$", done.stdout, re.MULTILINE)
    assert counts is not None
    for name, count in zip(("main", "handler", "thread"), map(int, counts.groups()), strict=True):
        wanted = sorted(b'{"number": %d}' % number for number in range(count))
        assert sorted(observer.of(name, count)) == wanted


@pytest.mark.parametrize("outbox", OUTBOXES)
def test_publish_imports_nothing(device: Path, outbox: str) -> None:
    play(device, "imports", outbox)


def test_a_client_that_is_not_used_any_more_is_collected(device: Path) -> None:
    client = Client(str(device))
    client.connect()
    client.disconnect()
    gone = weakref.ref(client._connection)
    del client
    gc.collect()
    assert gone() is None


class _Turning:
    """What a Loop turns, without a network."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.link = self

    def turn(self, wait_ms: int) -> int:
        return wait_ms

    def wake(self) -> None:
        pass


def test_a_signal_handler_may_end_the_program_while_the_loop_starts() -> None:
    # Of `Thread.start` the beginning and the end: amid it, an exception would leave a lock of
    # `threading` itself held, and no thread would begin in this process any more.
    events = {Loop.start.__code__: ("line",), threading.Thread.start.__code__: ("call", "return")}
    strike_at = 0
    struck = True
    while struck:
        strike_at += 1
        left, struck = strike_at, False
        loop, ended = Loop(_Turning()), []

        def strike(frame: FrameType, event: str, argument: object) -> Callable | None:
            nonlocal left, struck
            if frame.f_code not in events:
                return None
            if event in events[frame.f_code]:
                left -= 1
                if not left:
                    struck = True
                    sys.settrace(None)
                    raise SystemExit(0)
            return strike

        sys.settrace(strike)
        try:
            loop.start()
        except SystemExit:
            assert struck
        finally:
            sys.settrace(None)
        # as `with client:` does, and whoever asks again
        loop.stop(lambda ended=ended: ended.append(1))
        assert ended == [1], strike_at
    assert strike_at > 8
