"""Messages per second of securemqtt: `micropython rate_securemqtt_board.py BUNDLE COUNT`."""

import sys
import time

from securemqtt import Client, log_to

ROOM = 200


def quiet(level, text):
    """Print nothing, so that what is measured is not the printing."""


log_to(quiet)
left = count = int(sys.argv[2])
client = Client(sys.argv[1], outbox_messages=ROOM, outbox_bytes=1 << 20)
payload = b"x" * 64
with client:
    start = time.ticks_us()
    while left:
        for _ in range(min(left, ROOM - client.pending)):
            client.publish("~/t", payload)
            left -= 1
        client.poll()
    if not client.flush(60):
        raise OSError("not everything was acknowledged")
    print("figure", count * 1e6 / time.ticks_diff(time.ticks_us(), start))
