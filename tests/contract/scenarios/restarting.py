"""The broker restarts in the middle of a stream, three times: nothing is lost, and each message's
first arrival is in order.
"""

from common import SETTING, device, granted, ok, until, want

# All that is published while the broker is away is in memory at once: a board has room for less.
SHARE = 4 if SETTING.get("small") else 1
COUNT = 1000 // SHARE
client = device(outbox_messages=COUNT + 10, outbox_bytes=1 << 20)
# No object is kept per message: a thousand small ones, each where its message came, would leave no
# hole of 16 kB in a heap of 2 MB.
arrived = bytearray(COUNT)
arrived_count = 0
strays = []


def note(message):
    global arrived_count
    number = int(message.payload)
    if not arrived[number]:
        if number != arrived_count:
            strays.append(number)
        arrived[number] = 1
        arrived_count += 1


client.subscribe("~/loop", note)
client.connect()
ok(granted(client), "subscribed to its own topic")
published = 0


def publish(count):
    global published
    for _ in range(count):
        client.publish("~/loop", str(published))
        published += 1


for step in range(3):
    publish(200 // SHARE)
    want("broker restart")
    publish(100 // SHARE)
    ok(
        until(
            lambda connects=step + 2: client.connected and client.stats["connects"] == connects,
            client,
        ),
        "connected again",
    )
publish(COUNT - published)
ok(until(lambda: client.flush(0), client), "all is acknowledged")
ok(until(lambda: arrived_count == COUNT, client), "nothing is lost")
ok(not strays, "the order is kept")
client.disconnect()
