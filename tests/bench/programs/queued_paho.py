"""Plain paho-mqtt as the peer of `queued_device.py`: `python queued_paho.py subscribe|drain BUNDLE
COUNT`; and who fills a device's queue at the broker: `queued_paho.py fill BUNDLE COUNT DEVICE`.
"""

import json
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

_PATIENCE_S = 300
_HANDLER_S = 0.001
_WINDOW = 20
# How often memory is looked at, in messages.
_LOOK_EACH = 100

what, bundle, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
config = json.loads((bundle / "config.json").read_text())
device = sys.argv[4] if what == "fill" else config["client_id"]
topic = f"devices/{device}/command/n"
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=config["client_id"], clean_session=what == "fill"
)
client.max_inflight_messages_set(_WINDOW)
client.tls_set(
    str(bundle / config["ca"][0]),
    str(bundle / config["certificate"][0]),
    str(bundle / config["key"]),
)
connected, subscribed, all_handled = threading.Event(), threading.Event(), threading.Event()
numbers: list[int] = []
taken_kb: list[float] = []


def used_kb() -> float:
    """Return what this process has in memory: pages of 4 KiB, proc(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.096


def handle(client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
    """Take 1 ms."""
    numbers.append(int(message.payload))
    if not len(numbers) % _LOOK_EACH:
        taken_kb.append(used_kb())
    time.sleep(_HANDLER_S)
    if len(numbers) == count:
        all_handled.set()


client.on_connect = lambda *details: connected.set()
client.on_subscribe = lambda *details: subscribed.set()
client.on_message = handle
before_kb = used_kb()
start = time.perf_counter()
client.connect(config["host"], config["port"])
client.loop_start()
if not connected.wait(20):
    raise OSError("no connection")
if what == "subscribe":
    client.subscribe(topic, 1)
    if not subscribed.wait(20):
        raise OSError("no subscription")
elif what == "fill":
    for info in [client.publish(topic, str(number), 1) for number in range(count)]:
        info.wait_for_publish(_PATIENCE_S)
elif not all_handled.wait(_PATIENCE_S) or numbers != list(range(count)):
    raise OSError(f"{len(numbers)} of {count} came, or out of order")
rate = count / (time.perf_counter() - start)
print("figure", rate, max(taken_kb, default=before_kb) - before_kb, 1)
client.disconnect()
client.loop_stop()
