"""RabbitMQ in the foreground for a home: it takes up what the commands change there."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.broker.children import last_words, spawn
from securemqtt_tools.broker.config import LOG, BrokerConfig
from securemqtt_tools.broker.lock import holding
from securemqtt_tools.broker.rabbitmq.devices import hand_over
from securemqtt_tools.broker.rabbitmq.program import find_rabbitmq
from securemqtt_tools.broker.rabbitmq.server import RabbitMQ, shortcomings
from securemqtt_tools.cli import FatalError, as_called, default_home
from securemqtt_tools.home import Home
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.files import explained
from securemqtt_tools.pki.layout import INVENTORY

_START_S = 180.0
_STOP_S = 30.0
_LOOK_S = 0.5


def main(arguments: list[str]) -> int:
    """Run it until SIGTERM or SIGINT; 1 with a line on standard error when it cannot."""
    home = Home(Path(arguments[0]) if arguments else default_home())
    try:
        with _received_signals() as received:
            _run(home, received)
    except FatalError as error:
        print(f"securemqtt: {escaped(as_called(str(error)))}", file=sys.stderr)
        return 1
    return 0


def _run(home: Home, received: queue.SimpleQueue[int]) -> None:
    program = find_rabbitmq()
    if program is None:
        raise FatalError("RabbitMQ is not installed: apt-get install rabbitmq-server")
    authority = Authority.open(home.ca, witnesses=home.witnesses)
    config = BrokerConfig.open(home.broker)
    if 0 in (config.port, config.websockets_port):
        raise FatalError(
            "RabbitMQ needs its port chosen: run securemqtt broker init --force --port 8883"
        )
    log = config.directory / LOG
    broker = RabbitMQ(config, program, log)
    with holding(config.directory):
        hand_over(authority, config.directory)
        broker.write()
        seen = _changed_at(home)
        with _started(broker) as process:
            broker.take_up()
            print(f"RabbitMQ {program.version_text} is running: port {config.port}", flush=True)
            for line in shortcomings(config):
                print(line, flush=True)
            while True:
                number = _next(received)
                if number not in (None, signal.SIGHUP):
                    return
                if process.poll() is not None:
                    raise FatalError(f"RabbitMQ has ended by itself: see {log}")
                if number is not None or _changed_at(home) != seen:
                    seen = _changed_at(home)
                    _reload(authority, broker)


def _reload(authority: Authority, broker: RabbitMQ) -> None:
    try:
        hand_over(authority, broker.config.directory)
        broker.take_up()
    except FatalError as error:
        said = escaped(as_called(f"Not reloaded: {error}. Try securemqtt broker reload"))
        print(said, file=sys.stderr, flush=True)
    else:
        print("Reloaded.", flush=True)


def _changed_at(home: Home) -> int:
    """Return when the inventory has changed: a new device needs no reload of other brokers."""
    with explained(f"look at {home.ca}"):
        return max(one.stat().st_mtime_ns for one in home.ca.glob(f"{INVENTORY}*"))


@contextmanager
def _started(broker: RabbitMQ) -> Iterator[subprocess.Popen[bytes]]:
    begin = broker.log.stat().st_size if broker.log.exists() else 0
    with explained(f"start {broker.program.server}"):
        process = spawn(
            broker.command(),
            broker.log,
            broker.environment(),
            broker.config.limits.connections + 1000,
        )
    try:
        deadline = time.monotonic() + _START_S
        while not broker.ready.search(said := _read(broker.log, begin)):
            if process.poll() is not None:
                raise FatalError(
                    f"RabbitMQ does not start: {escaped(last_words(said))} (see {broker.log})"
                )
            if time.monotonic() > deadline:
                raise FatalError(
                    f"RabbitMQ did not start within {_START_S:.0f} s: see {broker.log}"
                )
            time.sleep(_LOOK_S)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(log: Path, begin: int) -> bytes:
    with explained(f"read {log}"), log.open("rb") as file:
        file.seek(begin)
        return file.read()


def _next(received: queue.SimpleQueue[int]) -> int | None:
    try:
        return received.get(timeout=_LOOK_S)
    except queue.Empty:
        return None


@contextmanager
def _received_signals() -> Iterator[queue.SimpleQueue[int]]:
    """Collect the signals that arrive, instead of what they would do."""
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {one: signal.signal(one, lambda number, _: received.put(number)) for one in numbers}
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
