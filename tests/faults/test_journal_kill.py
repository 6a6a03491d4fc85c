"""A durable outbox and SIGKILL: the client dies at random moments of a run of 10,000 messages, a
hundred times, and none is lost.

The seed of the moments is printed; SECUREMQTT_SEED repeats it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.interpreters.either import SWEEP
from support.interpreters.micropython import (
    compiled_library,
    micropython_command,
    micropython_environment,
)
from support.network.net import wait_until
from support.requirements import require_program
from support.speed import seconds, slowness

KILLS = 40 * SWEEP
MESSAGES = 100 * KILLS
# Long enough to connect and to publish some, most of the time.
LONGEST_LIFE_S = 0.2 * slowness()
PATIENCE_S = seconds(100)
COUNTER = "counter"
NURSERY = Path(__file__).with_name("nursery.py")


class Counter:
    """A client of paho's own that notes each number that arrives, subscribed with QoS 1."""

    def __init__(self, bundle: Path, port: int) -> None:
        self.arrivals: list[int] = []
        self._ready = threading.Event()
        context = ssl.create_default_context(cafile=str(bundle / "ca0.crt"))
        context.load_cert_chain(bundle / "device0.crt", bundle / "device.key")
        self._client = paho.Client(CallbackAPIVersion.VERSION2, COUNTER)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda client, *_: client.subscribe("devices/+/number", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda client, data, message: self.arrivals.append(
            int(message.payload)
        )
        self._client.connect("localhost", port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S), "the counter did not get through"

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


class Nursery:
    """nursery.py, and what the lives that it starts print."""

    def __init__(self, interpreter: str, scratch: Path) -> None:
        environment = dict(os.environ)
        command = [sys.executable, str(NURSERY)]
        if interpreter == "micropython":
            environment = micropython_environment()
            environment["MICROPYPATH"] = (
                f"{compiled_library(scratch / 'library')}:{environment['MICROPYPATH']}"
            )
            command += micropython_command()
        self.kills = 0
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def live(self, life_s: float, arguments: list[str]) -> Iterator[str]:
        """Return what one life prints, which is killed after `life_s`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([life_s, arguments]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "gone":
                assert rest in ("0", str(-signal.SIGKILL)), f"the device ended with {rest}"
                self.kills += rest != "0"
                return
            else:
                yield word
        raise AssertionError("the nursery has gone")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.mark.parametrize(
    ("interpreter", "fsync"),
    [
        ("cpython", "interval"),
        ("micropython", "each"),
        pytest.param("cpython", "each", marks=pytest.mark.long),
    ],
)
def test_a_client_that_is_killed_again_and_again_loses_nothing(
    authority: Authority, tmp_path: Path, interpreter: str, fsync: str
) -> None:
    require_program("mosquitto")
    seed = int(os.environ.get("SECUREMQTT_SEED", random.randrange(1 << 24)))
    print(f"SECUREMQTT_SEED={seed}")
    BrokerConfig.create(
        tmp_path / "broker", authority, names=["localhost"], port=0, roles={COUNTER: "operator"}
    )
    with BrokerProcess(tmp_path / "broker", engine="mosquitto") as broker:
        counter = Counter(
            write_bundle(tmp_path / COUNTER, authority, COUNTER, port=broker.port), broker.port
        )
        board = interpreter == "micropython"
        bundle = write_bundle(
            tmp_path / "mortal", authority, "mortal", port=broker.port, board=board
        )
        nursery = Nursery(interpreter, tmp_path)
        try:
            began = time.monotonic()
            _lead_lives(nursery, bundle, fsync, random.Random(seed))
            wait_until(
                lambda: len(set(counter.arrivals)) == MESSAGES,
                PATIENCE_S,
                f"the arrival of {MESSAGES} messages",
            )
        finally:
            nursery.close()
            counter.close()
    again = len(counter.arrivals) - MESSAGES
    lives_s = time.monotonic() - began
    print(
        f"{interpreter}, {fsync}: {nursery.kills} kills, {MESSAGES} messages, 0 lost, {again} "
        f"twice, {lives_s:.0f} s"
    )
    highest = -1
    for number in counter.arrivals:
        assert number <= highest + 1, f"{number} came before {highest + 1}"
        highest = max(highest, number)
    # What was in flight, what no low-water mark told of, and what was written but not said to be.
    assert again <= nursery.kills * (100 + 20 + 1)


def _lead_lives(nursery: Nursery, bundle: Path, fsync: str, moments: random.Random) -> None:
    """Publish all messages over many lives, the last of which is let live."""
    options = json.dumps({"outbox_fsync": fsync})
    published = 0
    delivered = False
    while not delivered:
        enough = nursery.kills >= KILLS
        # Until then, something is left to publish.
        end = MESSAGES if enough else min(MESSAGES, published + 2 * MESSAGES // KILLS)
        life_s = PATIENCE_S if enough else moments.uniform(0, LONGEST_LIFE_S)
        for word in nursery.live(
            life_s, [str(bundle), options, "~/number", str(published), str(end)]
        ):
            if word == "delivered":
                delivered = enough
            else:
                published = int(word) + 1
