"""Send messages of 1 kB and have them back without an error, or fail for want of heap:
`micropython -X heapsize=… smallest_heap.py BUNDLE [durable]`.
"""

import sys
import time

from securemqtt import Client

MESSAGES = 5
ROOM_BYTES = 4096
LIMIT_MS = 10000  # thirty times what it takes where there is room

options = {}
if "durable" in sys.argv:
    options = {"outbox": "durable", "outbox_dir": sys.argv[1] + "/outbox"}
client = Client(sys.argv[1], outbox_bytes=ROOM_BYTES, **options)
got = []
client.subscribe("~/echo", lambda message: got.append(len(message.payload)))
client.connect()
start = time.ticks_ms()
for n in range(MESSAGES):
    client.publish("~/echo", b"x" * 1024)
    while client.pending or len(got) <= n:
        if client.last_error or time.ticks_diff(time.ticks_ms(), start) > LIMIT_MS:
            raise OSError(f"{len(got)} of {MESSAGES} messages came back", client.last_error)
        client.wait(0.05)
print("figure 1")
