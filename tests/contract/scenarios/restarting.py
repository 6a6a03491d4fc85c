"""The broker restarts in the middle of a stream, three times: nothing is lost, and each message's first arrival is in order."""

from common import collector, device, ok, settled, until, want

COUNT = 1000
client = device(outbox_messages=COUNT + 10, outbox_bytes=1 << 20)
received = collector(client, "~/loop")
client.connect()
ok(settled(client), "subscribed to its own topic")
published = 0


def publish(count):
    global published
    for _ in range(count):
        client.publish("~/loop", str(published))
        published += 1


for step in range(3):
    publish(200)
    want("broker restart")
    publish(100)
    ok(until(lambda connects=step + 2: client.connected and client.stats["connects"] == connects, client), "connected again")
publish(COUNT - published)
ok(until(lambda: client.flush(0), client), "all is acknowledged")
ok(until(lambda: len(set(received)) == COUNT, client), "nothing is lost")
firsts = []
seen = set()
for payload in received:
    if payload not in seen:
        seen.add(payload)
        firsts.append(int(payload))
ok(firsts == list(range(COUNT)), "the order is kept")
client.disconnect()
