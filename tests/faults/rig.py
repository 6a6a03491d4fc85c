"""What a fault happens to: a device in a process of its own, a proxy before the broker, and who
counts what arrives.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from faults.commands import Commander, Orders
from securemqtt_tools.broker import BrokerConfig, BrokerProcess, Limits
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.interpreters.micropython import micropython_command, micropython_environment
from support.network.name_server import NameServer
from support.network.net import wait_until
from support.network.proxy import Proxy
from support.speed import seconds, slowness

INTERPRETERS = ("cpython", "micropython")
# The same with the asyncio face of the client.
ASYNCIO = ("cpython asyncio", "micropython asyncio")
NAMES = ["localhost", "127.0.0.1", "broker.test"]
KEEP_ALIVE_S = 5
# A peer that says nothing is given up after 1.5 × the keep-alive.
SILENCE_S = KEEP_ALIVE_S * 1.5
# Ample for a handshake here, beside many others: half a second and more on the reference machine.
# No longer, since each attempt that a fault hangs up lasts as long.
CONNECT_S = 3.5 + slowness() / 2
# Less, so that it is the resolver that gives up.
RESOLVER_S = 3
PAUSE_MS = 100
# What is in flight at most.
WINDOW = 20
# The broker hangs up at a packet that is larger; those of the trials have some hundred bytes.
PACKET_BYTES = 4096
# Nothing on a port that only root may listen on, and does not here: what is taken there is refused.
NOWHERE = 1
PATIENCE_S = seconds(60)
GRACE_S = seconds(10)
_HERE = Path(__file__).parent
_OBSERVER = "observer"


def is_board(interpreter: str) -> bool:
    """Return True for MicroPython, with either face."""
    return interpreter.startswith("micropython")


@dataclass(frozen=True)
class Tally:
    """What became of numbered messages."""

    sent: int
    delivered: int
    duplicates: int
    in_order: bool
    """But for those that were parked: a flaky network may cost a message its place."""
    parked: int = 0
    """How many wait in the outbox still, since connections broke again and again when each of them
    was on its way, as if the broker would not take it.
    """

    @property
    def lost(self) -> int:
        return self.sent - self.delivered - self.parked

    def plus(self, other: Tally) -> Tally:
        """Return what became of both together."""
        return Tally(
            self.sent + other.sent,
            self.delivered + other.delivered,
            self.duplicates + other.duplicates,
            self.in_order and other.in_order,
            self.parked + other.parked,
        )


class Observer:
    """An operator's client, paho's own, straight at the broker: it notes every number that arrives,
    and when.

    It subscribes with QoS 0, since Mosquitto then writes to it before it writes PUBACK: a broker
    that is killed takes nothing with it that it has acknowledged. What is published while it is
    away would pass it by, so devices are let in again once `ready` is set.
    """

    def __init__(self, bundle: Path, port: int) -> None:
        self.arrivals: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.ready = threading.Event()
        self._came = threading.Condition()
        context = ssl.create_default_context(cafile=str(bundle / "ca0.crt"))
        context.load_cert_chain(bundle / "device0.crt", bundle / "device.key")
        self._client = paho.Client(CallbackAPIVersion.VERSION2, _OBSERVER)
        self._client.tls_set_context(context)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("devices/+/data/#", 0)
        self._client.on_subscribe = lambda *_: self.ready.set()
        self._client.on_disconnect = lambda *_: self.ready.clear()
        self._client.on_message = self._note
        self._client.connect("localhost", port)

    def __enter__(self) -> Observer:
        self._client.loop_start()
        self.await_ready()
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def await_ready(self) -> None:
        """Wait until everything that is published arrives here."""
        assert self.ready.wait(PATIENCE_S), "the observer did not get through"

    def latest(self, topic: str) -> int:
        """Return the highest number that has come on a topic, -1 for none."""
        return max((number for number, _ in list(self.arrivals[topic])), default=-1)

    def when_after(self, topic: str, number: int, since_s: float) -> float | None:
        """Return when the first number above `number` came after `since_s`, None if none has."""
        return next(
            (when for got, when in list(self.arrivals[topic]) if got > number and when >= since_s),
            None,
        )

    def publish(self, topic: str, text: str, qos: int) -> paho.MQTTMessageInfo:
        """Publish as an operator does."""
        return self._client.publish(topic, text, qos)

    def tally(
        self, topic: str, sent: int, late: Collection[int] = (), parked: Collection[int] = ()
    ) -> Tally:
        """Count what has come on a topic of so many messages, all of them acknowledged but for
        those that are `parked`; those that are or were (`late`) come in no order.
        """
        # PUBACK can be faster than what comes here, but what is lost does not come however long one
        # waits.
        with self._came:
            self._came.wait_for(
                lambda: len({*self._numbers(topic, sent), *parked}) >= sent, GRACE_S
            )
            numbers = self._numbers(topic, sent)
        assert min(numbers, default=0) >= 0, f"a forked child got through on {topic}"
        delivered = len(set(numbers))
        # A second delivery comes in its order, too: each number is at most one above the highest
        # before it.
        highest, in_order = -1, True
        for number in numbers:
            while highest + 1 in late:
                highest += 1
            in_order = in_order and number <= highest + 1
            highest = max(highest, number)
        waiting = len(set(parked) - set(numbers))
        return Tally(sent, delivered, len(numbers) - delivered, in_order, waiting)

    def _numbers(self, topic: str, sent: int) -> list[int]:
        return [number for number, _ in self.arrivals[topic] if number < sent]

    def _note(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with self._came:
            self.arrivals[message.topic].append((int(message.payload), time.monotonic()))
            self._came.notify_all()


@dataclass(frozen=True)
class Kit:
    """What is special about a device, and its surroundings."""

    program: str = "sender.py"
    """A file beside this one."""
    flags: tuple[str, ...] = ()
    """What MicroPython is started with."""
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = "localhost"
    """The broker's name, as the device knows it."""
    name_server: bool = False
    """Whether the device asks a name server of the scene's, where it gives up after RESOLVER_S."""


class Sender:
    """A device's program under one interpreter; ended with the block."""

    def __init__(
        self,
        interpreter: str,
        bundle: Path,
        topic: str,
        options: Mapping[str, object],
        kit: Kit,
        prefix: Sequence[str],
    ) -> None:
        board = is_board(interpreter)
        self.topic = topic
        self.handled: list[int] = []
        """The numbers of the commands it has handled, as far as it was asked."""
        self.late: dict[str, set[int]] = defaultdict(set)
        """By topic, the numbers that were found parked."""
        # A file: a pipe that nobody reads is full after a while, and stops who writes into it.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by __exit__)
        # -u: an answer is there when it was printed, as on MicroPython
        command = micropython_command(*kit.flags) if board else [sys.executable, "-u"]
        self._process = subprocess.Popen(
            [
                *prefix,
                *command,
                str(_HERE / kit.program),
                str(bundle),
                json.dumps(options),
                topic,
                str(PAUSE_MS),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={
                **(micropython_environment() if board else os.environ),
                **kit.environment,
                "SECUREMQTT_TEST_FACE": "asyncio" if interpreter in ASYNCIO else "",
            },
        )

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def check(self, said: str = "") -> None:
        """Raise AssertionError with its last words, which go on from what it `said`, if it has
        ended.
        """
        if self._process.poll() is not None and self._process.stdout is not None:
            self._errors.seek(0)
            said += self._process.stdout.read() + self._errors.read()
            raise AssertionError(f"the device has gone: {said}")

    def ask(self, command: str = "report") -> dict[str, Any]:
        """Give it a command, return the answer, and keep what that says of commands and of parked
        messages.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self.check()
        limit = threading.Timer(2 * PATIENCE_S, self._process.kill)
        limit.start()
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            said = ""
            while line and not line.startswith("{"):  # MicroPython prints tracebacks here
                said += line
                line = self._process.stdout.readline()
        except BrokenPipeError:
            line = said = ""
        finally:
            limit.cancel()
        if not line:
            self._process.wait(PATIENCE_S)
            self.check(said)
        answer: dict[str, Any] = json.loads(line)
        self.handled += answer.get("handled", [])
        for topic, numbers in answer.get("late", {}).items():
            self.late[topic].update(numbers)
        return answer


class Ground:
    """A broker with its observer, on which devices can be put.

    Mosquitto writes down its sessions at each change, and takes packets of PACKET_BYTES at most,
    which no device knows.
    """

    def __init__(self, authority: Authority, directory: Path) -> None:
        self.authority = authority
        self.directory = directory
        config = BrokerConfig.create(
            directory / "broker",
            authority,
            names=NAMES,
            port=0,
            roles={_OBSERVER: "operator"},
            save_each_change=True,
        )
        replace(config, limits=Limits(packet_bytes=PACKET_BYTES)).save()
        self.broker = BrokerProcess(directory / "broker", engine="mosquitto")
        self.observer: Observer

    def __enter__(self) -> Ground:
        with ExitStack() as stack:
            stack.enter_context(self.broker)
            bundle = write_bundle(
                self.directory / "observer", self.authority, _OBSERVER, port=self.broker.port
            )
            self.observer = stack.enter_context(Observer(bundle, self.broker.port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def forget(self) -> None:
        """Have the broker, which must not run, lose all its sessions."""
        data = self.broker.directory / "data"
        shutil.rmtree(data)
        data.mkdir(mode=0o700)


class Scene:
    """One device, its proxy and its ground; what a fault needs to do its work."""

    def __init__(
        self,
        ground: Ground,
        interpreter: str,
        device: str,
        options: Mapping[str, object],
        kit: Kit | None = None,
        commands_s: float | None = None,
    ) -> None:
        """`commands_s`: how often the device is sent a command; None: never."""
        self.ground = ground
        self.interpreter = interpreter
        self.device = device
        self.options = {"keep_alive_s": KEEP_ALIVE_S, "connect_timeout_s": CONNECT_S, **options}
        self.directory = ground.directory / device
        self.kit = kit or Kit()
        self.commander: Commander | None = None
        self._commands_s = commands_s
        self.noticed_s: float | None = None
        """How long the device took to notice the fault, where that has a bound."""
        self.attempts = 0
        """How often a device connected, or tried to, in a fight."""
        self.lifted_s = 0.0
        self._prefix: list[str] = []

    def __enter__(self) -> Scene:
        with ExitStack() as stack:
            self.stack = stack
            self.proxy = stack.enter_context(Proxy(self.ground.broker.port))
            board = is_board(self.interpreter)
            self.bundle = write_bundle(
                self.directory,
                self.ground.authority,
                self.device,
                port=self.proxy.port,
                host=self.kit.host,
                board=board,
            )
            if self.kit.name_server:
                self.names = stack.enter_context(NameServer(self.kit.host, "127.0.0.1"))
                self._prefix = self.names.prefix(self.directory, RESOLVER_S)
            self.sender = self.enter_sender("data/a")
            self.await_number(4)  # so its subscriptions, which were sent before, are there
            if self._commands_s is not None:
                commander = Commander(self.ground.observer, self.device, self._commands_s)
                self.commander = stack.enter_context(commander)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def enter_sender(self, topic: str) -> Sender:
        """Start a device with this identity that publishes on a topic of its own; it ends with the
        scene.
        """
        topic = f"devices/{self.device}/{topic}"
        return self.stack.enter_context(
            Sender(self.interpreter, self.bundle, topic, self.options, self.kit, self._prefix)
        )

    def lift(self) -> None:
        """Note that the fault is lifted now."""
        self.lifted_s = time.monotonic()

    def report(self) -> dict[str, Any]:
        """Ask the device how it stands."""
        return self.sender.ask()

    def await_number(self, number: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until this number, or one above it, has arrived."""
        topic = self.sender.topic

        def arrived() -> bool:
            self.sender.check()
            return self.ground.observer.latest(topic) >= number

        wait_until(arrived, timeout_s, f"message {number} on {topic}")

    def await_more(self, count: int) -> None:
        """Wait until so many more numbers have arrived."""
        self.await_number(self.ground.observer.latest(self.sender.topic) + count)

    def await_loss(self) -> None:
        """Wait until the device has noticed that its connection is gone, and note how long that
        took.
        """
        began = time.monotonic()
        connects = self.report()["connects"]

        def lost() -> bool:
            report = self.report()
            return not report["connected"] or report["connects"] != connects

        wait_until(lost, PATIENCE_S, "the loss of the connection")
        self.noticed_s = time.monotonic() - began

    def fail(self, count: int, error: str | None = None) -> None:
        """Reset the connection and wait until that and the attempts after it have made so many
        failures, the last one with this error.
        """
        wanted = self.report()["failures"] + count
        self.proxy.reset()

        def failed() -> bool:
            report = self.report()
            return report["failures"] >= wanted and error in (None, report["error"])

        wait_until(failed, 2 * PATIENCE_S, f"{count} failures, {error or 'of any kind'}")

    def await_connection(self) -> None:
        """Have the device connect anew, and wait until it has."""
        connects = self.report()["connects"]
        self.proxy.reset()
        wait_until(lambda: self.report()["connects"] > connects, PATIENCE_S, "a new connection")

    def tally(self, sender: Sender | None = None) -> Tally:
        """End the publishing, wait until all is acknowledged, and count what the observer has."""
        sender = sender or self.sender
        report = sender.ask(f"finish {1.5 * PATIENCE_S}")
        assert report["flushed"], f"not everything was acknowledged: {report}"
        parked = report.get("late", {})
        wanted = report.get("poisons", 0) + sum(map(len, parked.values()))
        assert report["parked"] == wanted, f"{wanted} should be parked: {report}"
        topics = {sender.topic: report["published"], **report.get("beside", {})}
        tallies = [
            self.ground.observer.tally(topic, sent, sender.late[topic], parked.get(topic, ()))
            for topic, sent in topics.items()
        ]
        return functools.reduce(Tally.plus, tallies)

    def command_tally(self) -> Orders | None:
        """Wait until all commands are handled, and compare; None if there were none.

        To be called before `tally`, after which the device handles nothing.
        """
        if self.commander is None:
            return None
        commander, handled = self.commander, self.sender.handled
        commander.end()
        deadline = time.monotonic() + PATIENCE_S
        while commander.missing(handled) and time.monotonic() < deadline:
            time.sleep(0.05)
            self.report()
        return commander.tally(handled)
