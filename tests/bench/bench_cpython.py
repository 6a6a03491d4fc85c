"""CPython: messages per second against plain paho-mqtt with the same window.

Same run, same broker, loopback, mutual TLS, QoS 1, 64 bytes; each side in a process of its own, in
turn. `measure(setting)` gives figures; run.py prints them beside their floors.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from setting import Setting, setting

_ROUNDS = 5
_MESSAGES = 20_000
_WINDOW = 20

PAHO = """
import json, sys, threading, time
import paho.mqtt.client as mqtt
bundle, count, window = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = json.load(open(bundle + "/config.json"))
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=config["client_id"], clean_session=True)
client.max_inflight_messages_set(window)
client.max_queued_messages_set(0)
client.tls_set(bundle + "/" + config["ca"][0], bundle + "/" + config["certificate"][0], bundle + "/" + config["key"])
connected = threading.Event()
client.on_connect = lambda *details: connected.set()
client.connect(config["host"], config["port"])
client.loop_start()
assert connected.wait(20)
topic, payload = "devices/" + config["client_id"] + "/t", b"x" * 64
start = time.perf_counter()
infos = [client.publish(topic, payload, 1) for _ in range(count)]
for info in infos:
    info.wait_for_publish()
print(count / (time.perf_counter() - start))
client.disconnect()
"""

OURS = """
import sys, time
from securemqtt import Client
bundle, count, window = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Client(bundle, clean_session=True, window=window, outbox_messages=count, outbox_bytes=1 << 28) as client:
    payload = b"x" * 64
    start = time.perf_counter()
    for _ in range(count):
        client.publish("~/t", payload)
    assert client.flush(120)
    print(count / (time.perf_counter() - start))
"""


def measure(everything: Setting) -> dict[str, float]:
    """Return the figures of this interpreter."""
    bundles = {side: everything.bundle(f"bench-{side}", der=False) for side in ("ours", "paho")}
    rates: dict[str, list[float]] = {side: [] for side in bundles}
    for _ in range(_ROUNDS):
        for side, program in (("ours", OURS), ("paho", PAHO)):
            rates[side].append(_rate(program, bundles[side]))
    ours, paho = (statistics.median(rates[side]) for side in ("ours", "paho"))
    return {
        "messages per second": ours,
        "plain paho, messages per second": paho,
        "against plain paho": ours / paho,
    }


def _rate(program: str, bundle: Path) -> float:
    arguments = [str(bundle), str(_MESSAGES), str(_WINDOW)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout)


if __name__ == "__main__":
    with setting() as alone:
        figures = measure(alone)
    print(", ".join(f"{name} {value:,.2f}" for name, value in figures.items()))
