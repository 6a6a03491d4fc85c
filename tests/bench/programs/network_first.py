"""Seconds from `start` until the first message is acknowledged, on either interpreter:
`network_first.py BUNDLE`.
"""

import sys
import time

from securemqtt import Client

client = Client(sys.argv[1])
delivery = client.publish("~/t", b"x" * 64)
start = time.time_ns()
client.start()
if not delivery.wait(20):
    raise OSError("the message was not acknowledged")
print("figure", (time.time_ns() - start) / 1e9)
