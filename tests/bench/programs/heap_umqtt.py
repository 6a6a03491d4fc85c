"""Heap that umqtt.simple's client and a TLS session take, umqtt.simple's own code apart:
`micropython heap_umqtt.py BUNDLE`.
"""

import gc
import sys

import umqtt.simple
from bare_identity import Identity, SocketModule


def used():
    """Return the bytes of the heap that are in use."""
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


before = used()
identity = Identity(sys.argv[1])
umqtt.simple.socket = SocketModule(identity)
client = umqtt.simple.MQTTClient(identity.client_id, identity.host, identity.port, keepalive=60)
client.connect()
client.publish(identity.topic, b"x" * 64, qos=1)
print("figure", used() - before)
