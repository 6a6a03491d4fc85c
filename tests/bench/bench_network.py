"""A network with a round trip of 50 ms: how much of the window's bound is reached, and how long the
first message takes after a return.

Both interpreters, through a proxy that delays each direction by 25 ms. `measure(setting)` gives
figures.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from bench_micropython import IDENTITY
from setting import ROOT, Setting

from support.proxy import Proxy

_ROUND_TRIP_S = 0.05
_WINDOW = 20
_MESSAGES = 2_000
_ROUNDS = 5

STEADY = """
import sys, time
from securemqtt import Client, log_to
client = Client(sys.argv[1], outbox_messages=5000, outbox_bytes=2000000)
client.connect()
for _ in range(int(sys.argv[2])):
    client.publish("~/t", b"x" * 64)
start = time.time_ns()
assert client.flush(60)
print("figure", int(sys.argv[2]) * 1e9 / (time.time_ns() - start))
"""

FIRST = """
import sys, time
from securemqtt import Client, log_to
client = Client(sys.argv[1])
delivery = client.publish("~/t", b"x" * 64)
start = time.time_ns()
client.start()
assert delivery.wait(20)
print("figure", (time.time_ns() - start) / 1e9)
"""

HANDSHAKE_MICROPYTHON = (
    IDENTITY
    + """
start = time.time_ns()
Secured().connect(socket.getaddrinfo(config["host"], config["port"])[0][-1])
print("figure", (time.time_ns() - start) / 1e9)
"""
)

HANDSHAKE_CPYTHON = """
import json, socket, ssl, sys, time
bundle = sys.argv[1]
config = json.load(open(bundle + "/config.json"))
context = ssl.create_default_context(cafile=bundle + "/" + config["ca"][0])
context.load_cert_chain(bundle + "/" + config["certificate"][0], bundle + "/" + config["key"])
start = time.time_ns()
context.wrap_socket(socket.create_connection((config["host"], config["port"])), server_hostname=config["host"])
print("figure", (time.time_ns() - start) / 1e9)
"""


def measure(setting: Setting) -> dict[str, float]:
    """Return the figures."""
    library = setting.board_library()
    figures = {}
    with Proxy(setting.broker.port) as proxy:
        proxy.up.delay_s = proxy.down.delay_s = _ROUND_TRIP_S / 2
        board = setting.bundle("far-board", der=True, port=proxy.port)
        pi = setting.bundle("far-pi", der=False, port=proxy.port)

        def micropython(program: str) -> float:
            return _figure(
                setting.micropython_output(program, str(board), str(_MESSAGES), path=library)
            )

        def cpython(program: str) -> float:
            command = [sys.executable, "-c", program, str(pi), str(_MESSAGES)]
            return _figure(
                subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
                ).stdout
            )

        for name, run, handshake in (
            ("MicroPython", micropython, HANDSHAKE_MICROPYTHON),
            ("CPython", cpython, HANDSHAKE_CPYTHON),
        ):
            figures[f"{name} at 50 ms, against window ÷ round trip"] = (
                run(STEADY) * _ROUND_TRIP_S / _WINDOW
            )
            beyond = [run(FIRST) - run(handshake) for _ in range(_ROUNDS)]
            figures[f"{name}, first message, round trips beyond the handshake"] = (
                statistics.median(beyond) / _ROUND_TRIP_S
            )
    return figures


def _figure(output: str) -> float:
    lines = [line for line in output.splitlines() if line.startswith("figure ")]
    return float(lines[-1].split()[1])
