"""Packet ids wrap from 65535 to 1, and skip those in use."""

from common import collector, device, granted, observer, ok, topic, until, want

client = device()
watcher = observer()
seen = collector(watcher, topic("ids"))
watcher.connect()
client.connect()
ok(granted(watcher), "the observer subscribed")
client._connection.link.session._next_id = 65530
for count in range(40):
    client.publish("~/ids", str(count))
ok(until(lambda: client.flush(0), client, watcher), "acknowledged over the wrap")
ok(
    until(lambda: len(seen) == 40, watcher, client) and [int(p) for p in seen] == list(range(40)),
    "all there, in order",
)
ok(0 < client._connection.link.session._next_id < 1000, "the ids have wrapped")
del seen[:]

# some in flight, and the counter comes by again
want("down hold")
client._connection.link.session._next_id = 65533
for count in range(10):
    client.publish("~/ids", str(count))
ok(until(lambda: len(seen) == 10, watcher, client), "ten in flight")
client._connection.link.session._next_id = 65534
for count in range(10, 20):
    client.publish("~/ids", str(count))
ok(until(lambda: len(seen) == 20, watcher, client), "ten more, whose ids had to skip")
want("down release")
ok(until(lambda: client.flush(0), client, watcher), "each is acknowledged")
ok([int(p) for p in seen] == list(range(20)), "once, in order")
client.disconnect()
watcher.disconnect()
