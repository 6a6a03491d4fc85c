"""Messages per second that one TLS socket carries with prepared packets and a window of 20:
`micropython rate_bare.py BUNDLE COUNT`.
"""

import sys
import time

from bare_identity import Identity

WINDOW = 20

count = int(sys.argv[2])
identity = Identity(sys.argv[1])
secured = identity.connect()
name = identity.client_id.encode()
head = b"\x00\x04MQTT\x04\x02\x00\x3c\x00" + bytes((len(name),))
secured.write(bytes((0x10, len(head) + len(name))) + head + name)
if secured.read(4)[3]:
    raise OSError("the broker refused the connection")
topic = bytes((0, len(identity.topic))) + identity.topic.encode()
packet = bytearray(bytes((0x32, len(topic) + 2 + 64)) + topic + b"\x00\x00" + b"x" * 64)
at = 2 + len(topic)
sent = acknowledged = 0
start = time.ticks_us()
while acknowledged < count:
    while sent < count and sent - acknowledged < WINDOW:
        sent += 1
        packet[at] = sent >> 8 & 255
        packet[at + 1] = sent & 255
        secured.write(packet)
    secured.read(4)
    acknowledged += 1
print("figure", count * 1e6 / time.ticks_diff(time.ticks_us(), start))
