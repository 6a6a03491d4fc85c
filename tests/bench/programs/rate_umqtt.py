"""Messages per second of umqtt.simple: `micropython rate_umqtt.py BUNDLE COUNT`."""

import sys
import time

import umqtt.simple
from bare_identity import Identity, SocketModule

count = int(sys.argv[2])
identity = Identity(sys.argv[1])
umqtt.simple.socket = SocketModule(identity)
client = umqtt.simple.MQTTClient(identity.client_id, identity.host, identity.port, keepalive=60)
client.connect()
payload = b"x" * 64
start = time.ticks_us()
for _ in range(count):
    client.publish(identity.topic, payload, qos=1)
print("figure", count * 1e6 / time.ticks_diff(time.ticks_us(), start))
