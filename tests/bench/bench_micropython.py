"""MicroPython: messages per second against umqtt.simple and against one bare socket, heap, and the
smallest heap that works.

Same run, same broker, loopback, mutual TLS, QoS 1, 64 bytes. `measure(setting)` gives figures;
run.py prints them beside their floors.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from setting import Setting

_ROUNDS = 3

IDENTITY = """
import json, socket, sys, time, tls
bundle, count = sys.argv[1], int(sys.argv[2])
config = json.load(open(bundle + "/config.json"))
def read(name):
    with open(bundle + "/" + name, "rb") as file:
        return file.read()
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
context.load_verify_locations(read(config["ca"][0]))
context.load_cert_chain(read(config["certificate"][0]), read(config["key"]))
topic = "devices/" + config["client_id"] + "/t"
payload = b"x" * 64
class Secured:
    "What umqtt takes for its socket: TLS with verification, which umqtt.simple 1.3.4 cannot set up itself."
    def connect(self, address):
        raw = socket.socket()
        raw.connect(address)
        secured = context.wrap_socket(raw, server_hostname=config["host"])
        self.write, self.read, self.setblocking, self.close = secured.write, secured.read, secured.setblocking, secured.close
    def settimeout(self, timeout): ...
class Module:
    getaddrinfo = socket.getaddrinfo
    socket = Secured
"""

UMQTT = (
    IDENTITY
    + """
import umqtt.simple
umqtt.simple.socket = Module
client = umqtt.simple.MQTTClient(config["client_id"], config["host"], config["port"], keepalive=60)
client.connect()
start = time.ticks_us()
for _ in range(count):
    client.publish(topic, payload, qos=1)
print(count * 1e6 / time.ticks_diff(time.ticks_us(), start))
"""
)

BARE = (
    IDENTITY
    + """
secured = Secured()
secured.connect(socket.getaddrinfo(config["host"], config["port"])[0][-1])
name = config["client_id"].encode()
secured.write(bytes((0x10, 12 + len(name))) + b"\\0\\x04MQTT\\x04\\x02\\0\\x3c\\0" + bytes((len(name),)) + name)
assert secured.read(4)[3] == 0
head = bytes((0, len(topic))) + topic.encode()
packet = bytearray(bytes((0x32, len(head) + 2 + 64)) + head + b"\\0\\0" + payload)
at = 2 + len(head)
start = time.ticks_us()
sent = acknowledged = 0
while acknowledged < count:
    while sent < count and sent - acknowledged < 20:
        sent += 1
        packet[at] = sent >> 8 & 255
        packet[at + 1] = sent & 255
        secured.write(packet)
    secured.read(4)
    acknowledged += 1
print(count * 1e6 / time.ticks_diff(time.ticks_us(), start))
"""
)

OURS = """
import sys, time
from securemqtt import Client, log_to
log_to(lambda level, text: None)
count = int(sys.argv[2])
client = Client(sys.argv[1], outbox_messages=200, outbox_bytes=1 << 20)
payload = b"x" * 64
with client:
    start = time.ticks_us()
    left = count
    while left:
        for _ in range(min(left, 200 - client.pending)):
            client.publish("~/t", payload)
            left -= 1
        client.poll()
    assert client.flush(60)
    print(count * 1e6 / time.ticks_diff(time.ticks_us(), start))
"""

HEAP = """
import gc, sys
def used():
    gc.collect(); gc.collect()
    return gc.mem_alloc()
import errno, json, os, random, select, socket, time, tls  # the firmware's own
import umqtt.simple
before = used()
from securemqtt import Client, log_to
log_to(lambda level, text: None)
client = Client(sys.argv[1])
client.connect()
client.publish("~/t", b"x" * 64)
assert client.flush(10)
print(used() - before)
"""

HEAP_RECEIVING = HEAP.replace(
    "client.connect()",
    """got = []
client.subscribe("~/command", lambda message: got.append(len(message.payload)))
client.connect()
client.publish("~/command", b"x" * 64)
while not got:
    client.wait(0.1)""",
)

HEAP_UMQTT = (
    IDENTITY.replace(
        "context = ",
        "import gc, umqtt.simple\ngc.collect(); gc.collect(); before = gc.mem_alloc()\ncontext = ",
    )
    + """
umqtt.simple.socket = Module
client = umqtt.simple.MQTTClient(config["client_id"], config["host"], config["port"], keepalive=60)
client.connect()
client.publish(topic, payload, qos=1)
gc.collect(); gc.collect()
print(gc.mem_alloc() - before)
"""
)

SMALLEST = """
import sys
from securemqtt import Client
client = Client(sys.argv[1], outbox_bytes=4096)
got = []
client.subscribe("~/echo", lambda message: got.append(len(message.payload)))
client.connect()
for _ in range(5):
    client.publish("~/echo", b"x" * 1024)
    assert client.flush(10)
    client.wait(0.2)
while len(got) < 5:
    client.wait(0.1)
print("held")
"""


def measure(setting: Setting) -> dict[str, float]:
    """Return the figures; a round alternates the sides, and the median of the rounds' ratios
    counts.
    """
    library = setting.board_library()
    bundle = setting.bundle("bench-board", der=True)

    def run(program: str, count: int) -> float:
        return float(setting.micropython_output(program, str(bundle), str(count), path=library))

    rounds = [(run(UMQTT, 100), run(BARE, 30_000), run(OURS, 30_000)) for _ in range(_ROUNDS)]
    umqtt_heap = run(HEAP_UMQTT, 0)
    return {
        "umqtt.simple, messages per second": statistics.median(umqtt for umqtt, _, _ in rounds),
        "bare socket, messages per second": statistics.median(bare for _, bare, _ in rounds),
        "securemqtt, messages per second": statistics.median(ours for _, _, ours in rounds),
        "against umqtt.simple": statistics.median(ours / umqtt for umqtt, _, ours in rounds),
        "against the bare socket": statistics.median(ours / bare for _, bare, ours in rounds),
        "heap beyond umqtt.simple and TLS, kB": (run(HEAP, 0) - umqtt_heap) / 1000,
        "the same for a device that has received, kB": (run(HEAP_RECEIVING, 0) - umqtt_heap) / 1000,
        "smallest heap for a session, kB": smallest_heap(setting, bundle, library),
    }


def smallest_heap(setting: Setting, bundle: Path, library: Path, program: str = SMALLEST) -> float:
    """Find by bisection the smallest heap, to 1 kB, with which 1 kB messages go out and come
    back.
    """
    low, high = 16, 256
    while high - low > 1:
        middle = (low + high) // 2
        if setting.micropython_output(
            program, str(bundle), path=library, heap=f"{middle}k", check=False
        ):
            high = middle
        else:
            low = middle
    return high
