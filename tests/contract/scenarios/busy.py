"""A subscriber with more to do than it can: a broker whose queue for it is full drops any packet,
so reading must never stop. The broker has Mosquitto's own limits here.
"""

import time

from common import device, granted, ok, topic, until, want

client = device()
zeros = []
ones = []


def slow(message):
    time.sleep(0.005)  # the slow handler itself
    zeros.append(message.payload[:5])


client.subscribe("~/command/zero", slow, 0)
client.subscribe("~/command/one", lambda message: ones.append(int(message.payload[:5])))
client.connect()
ok(granted(client), "subscribed")

want("flood " + topic("command/zero") + " 1500 0 10")
want("flood " + topic("command/one") + " 40 1 10")
ok(until(lambda: len(ones) == 40, client), "40 with QoS 1 behind 1,500 with QoS 0 that are slow")
ok(ones == list(range(40)), "each once, and in order")
stats = client.stats
ok(len(zeros) + stats["dropped_in"] <= 1500 and zeros, "of the others, what there was room for")

# Much, and fast; meanwhile the device's own messages are acknowledged.
del ones[:]
client.subscribe("~/command/zero", lambda message: None, 0)
ok(granted(client), "a quicker handler")
want("flood " + topic("command/zero") + " 12000 0 1000")
want("flood " + topic("command/one") + " 40 1 10")
deliveries = []
for _ in range(20):
    deliveries.append(client.publish("~/own", b"own"))
    client.wait(0.05)
ok(
    until(lambda: all(delivery.acknowledged for delivery in deliveries), client),
    "20 of its own are acknowledged meanwhile",
)
ok(until(lambda: len(ones) == 40, client) and ones == list(range(40)), "and 40 with QoS 1 arrive")
ok(client.stats["connects"] == 1 + client.stats["catch_ups"], "the connection was not lost")
ok(client.stats["failures"] == 0, "nothing failed")

# A handler that raises, and one that does not return before its messages are too many.
errors = []
client.on_error(errors.append)


def raising(message):
    ones.append(int(message.payload[:5]))
    time.sleep(0.002)
    raise ValueError("handler")


del ones[:]
client.subscribe("~/command/one", raising)
ok(granted(client), "a handler that raises")
want("flood " + topic("command/one") + " 100 1 1000")
delivery = client.publish("~/own", b"behind")
ok(client.flush(30) and delivery.acknowledged, "flush, whatever waits in the inbox")
ok(
    until(lambda: len(ones) == 100, client) and ones == list(range(100)),
    "100 of 1 kB, each once and in order",
)
ok(len(errors) == 100, "each error is told")
client.disconnect()
