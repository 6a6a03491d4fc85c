"""Messages per second over a slow network, on either interpreter: `network_steady.py BUNDLE
COUNT`.
"""

import sys
import time

from securemqtt import Client

count = int(sys.argv[2])
client = Client(sys.argv[1], outbox_messages=5000, outbox_bytes=2000000)
client.connect()
for _ in range(count):
    client.publish("~/t", b"x" * 64)
start = time.time_ns()
if not client.flush(60):
    raise OSError("not everything was acknowledged")
print("figure", count * 1e9 / (time.time_ns() - start))
