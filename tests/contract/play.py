"""Runs a scenario under an interpreter, and does to broker and network what it wants done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from securemqtt import Client
from securemqtt_tools.broker import BrokerProcess
from support.interpreters.micropython import (
    board_environment,
    micropython_command,
    micropython_environment,
)
from support.network.proxy import Proxy
from support.speed import VARIABLE, seconds, slowness

SCENARIOS = Path(__file__).parent / "scenarios"
CPYTHON = "cpython"
# MicroPython with the library from source, and with the library as provisioning puts it onto a
# board.
FORMS = ("micropython", "board")
INTERPRETERS = (CPYTHON, *FORMS)
_LIMIT_S = seconds(90)
# What the scenarios cannot find out: how slow this machine is, how long to wait for what must come,
# and how much later than it could be something may be. No argument, since MicroPython takes none of
# more than 255 bytes.
_SPEED = {
    VARIABLE: str(slowness()),
    "SECUREMQTT_TEST_PATIENCE_S": str(seconds(30)),
    "SECUREMQTT_TEST_SLACK_S": str(4 * slowness()),
}


@dataclass(frozen=True)
class Outcome:
    """What a scenario printed and how it ended."""

    status: int
    lines: list[str]
    errors: str

    @property
    def checks(self) -> list[str]:
        """What it found in order."""
        return [line.removeprefix("ok ") for line in self.lines if line.startswith("ok ")]


def prepared(
    interpreter: str, program: Path, directory: Path
) -> tuple[list[str], dict[str, str] | None]:
    """Return the command that runs a program of these tests, and its environment; what has to be
    compiled for it goes into `directory`.
    """
    if interpreter == CPYTHON:
        return [sys.executable, "-u", "-X", "dev", str(program)], None
    environment = (
        board_environment(directory) if interpreter == "board" else micropython_environment()
    )
    return [*micropython_command(), str(program)], environment


def play(
    interpreter: str,
    scenario: str,
    setting: dict[str, object],
    directory: Path,
    act: Callable[[str], None] | None = None,
) -> Outcome:
    """Run a scenario to its end; `act` is called with each wish.

    Ends the process in any case, after `_LIMIT_S` at the latest.
    """
    command, environment = prepared(interpreter, SCENARIOS / f"{scenario}.py", directory)
    process = subprocess.Popen(
        [*command, json.dumps(setting)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**(environment or os.environ), **_SPEED},
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    errors: list[str] = []
    draining = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    draining.start()
    limit = threading.Timer(_LIMIT_S, process.kill)
    limit.start()
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("want ") and act is not None:
                act(line.removeprefix("want ").strip())
                process.stdin.write("done\n")
                process.stdin.flush()
        process.wait()
        draining.join()
    finally:
        limit.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):  # an answer that nobody reads any more
                pipe.close()
    return Outcome(process.returncode, lines, "".join(errors))


class Environment:
    """A broker and a proxy before it, and the wishes that they know: `broker restart`, `proxy
    reset`, `down hold 3`, `flood TOPIC COUNT QOS BYTES` (in the background, one after the other),
    `retain TOPIC/ COUNT` …
    """

    def __init__(self, broker: BrokerProcess, proxy: Proxy, other_device: Path) -> None:
        """`other_device` is the bundle of an operator, who publishes what is wished for."""
        self.broker = broker
        self.proxy = proxy
        self._other_device = other_device
        self._floods: list[threading.Thread] = []

    def act(self, wish: str) -> None:
        """Do what a scenario wants."""
        if wish == "broker forget":
            self.broker.stop()
            shutil.rmtree(self.broker.directory / "data")
            (self.broker.directory / "data").mkdir(mode=0o700)
            self.broker.start()
            return
        name, verb, *numbers = wish.split()
        if name == "flood":
            count, qos, size = map(int, numbers)
            texts = [f"{number:05}".ljust(size, ".") for number in range(count)]
            before = self._floods[-1:]
            flood = threading.Thread(target=self._publish, args=([verb], texts, qos, False, before))
            self._floods.append(flood)
            flood.start()
            return
        if name == "retain":
            count = int(numbers[0])
            topics = [f"{verb}{number}" for number in range(count)]
            self._publish(topics, [str(number) for number in range(count)], 1, True, [])
            return
        targets = {
            "broker": self.broker,
            "proxy": self.proxy,
            "up": self.proxy.up,
            "down": self.proxy.down,
        }
        getattr(targets[name], verb)(*map(int, numbers))

    def close(self) -> None:
        """Wait for what is under way."""
        for flood in self._floods:
            flood.join()

    def _publish(
        self,
        topics: list[str],
        texts: list[str],
        qos: int,
        retain: bool,
        before: list[threading.Thread],
    ) -> None:
        for flood in before:
            flood.join()
        options = {"outbox_messages": 20_000, "outbox_bytes": 64 << 20, "status": False}
        with Client(str(self._other_device), clean_session=True, **options) as client:
            for number, text in enumerate(texts):
                client.publish(topics[number % len(topics)], text, qos, retain)
            client.flush(_LIMIT_S)
