"""Messages per second of plain paho-mqtt, from memory: `python rate_paho.py BUNDLE COUNT WINDOW`;
a window of 0 is none.
"""

import json
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

bundle, count, window = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
config = json.loads((bundle / "config.json").read_text())
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=config["client_id"], clean_session=True
)
client.max_inflight_messages_set(window)
client.max_queued_messages_set(0)
client.tls_set(
    str(bundle / config["ca"][0]),
    str(bundle / config["certificate"][0]),
    str(bundle / config["key"]),
)
connected = threading.Event()
client.on_connect = lambda *details: connected.set()
client.connect(config["host"], config["port"])
client.loop_start()
if not connected.wait(20):
    raise OSError("no connection")
topic, payload = f"devices/{config['client_id']}/t", b"x" * 64
start = time.perf_counter()
for info in [client.publish(topic, payload, 1) for _ in range(count)]:
    info.wait_for_publish()
print("figure", count / (time.perf_counter() - start))
client.disconnect()
