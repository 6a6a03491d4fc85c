"""A device that finds much waiting for it: 10,000 retained messages, fewer for a board's inbox, and
a program that does not call `wait` for long.
"""

import sys
import time

from common import SLOWNESS, THREADED, device, granted, ok, topic, until, want

# Mosquitto 2.0.11 has more and more of a retained backlog on its way at once, and sends all of that
# again to who reconnects: a board would be at it for many minutes.
KEPT = 10000 if sys.implementation.name == "cpython" else 500
client = device(keep_alive_s=int(5 * SLOWNESS))
client.connect()
# Retained ones are there before anybody asks.
want("retain " + topic("command/kept/") + f" {KEPT}")
seen = {}


def note(message):
    number = int(message.payload)
    seen[number] = seen.get(number, 0) + 1


client.subscribe("~/command/kept/+", note)
ok(until(lambda: len(seen) == KEPT, client), "all retained messages are handled")
# A lost connection brings again what was not acknowledged, and only so many are remembered.
ok(max(seen.values()) == 1 or client.stats["failures"] > 0, "each once")
ok(client.stats["dropped_in"] == client.stats["unhandled"] == 0, "none is dropped")
client.unsubscribe("~/command/kept/+")

# A program that is busy with something else.
later = []
client.subscribe("~/command/later", lambda message: later.append(int(message.payload[:5])))
ok(granted(client), "another subscription")
want("flood " + topic("command/later") + " 300 1 500")
time.sleep(9 * SLOWNESS)
ok(
    until(lambda: len(later) >= 300, client) and later == list(range(300)),
    "a program that did not wait for nearly two keep-alives: all are handled then, once, in order",
)
if THREADED:
    ok(client.stats["failures"] == 0, "where a thread serves it, without losing the connection")
client.disconnect()
