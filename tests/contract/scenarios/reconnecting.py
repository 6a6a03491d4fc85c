"""Connections that are lost: what was in flight goes out again, subscriptions come back, nothing is
lost.
"""

from common import collector, device, granted, observer, ok, topic, until, want

client = device()
watcher = observer()
status = collector(watcher, topic("status"))
seen = collector(watcher, topic("data"))
watcher.connect()
ok(granted(watcher), "the observer subscribed")
commands = collector(client, "~/command/+")
client.connect()
ok(granted(client), "the device subscribed")

# PUBACKs that never come: the window's messages go out again
want("down hold")
for count in range(30):
    client.publish("~/data", str(count))
ok(
    until(lambda: len(seen) == 20, watcher, client),
    "a window's worth is sent without an acknowledgement",
)
ok(not client.flush(0.2), "and nothing is acknowledged")
want("proxy reset")
want("down release")
ok(until(lambda: client.stats["connects"] == 2, client, watcher), "connected again")
ok(client.stats["reconnects"] == 1, "which counts as one reconnect")
ok(until(lambda: client.flush(0), client, watcher), "all is acknowledged then")
ok(until(lambda: len(seen) >= 50, watcher, client), "what was in flight came a second time")
numbers = [int(payload) for payload in seen]
ok(numbers == list(range(20)) + list(range(30)), "first, and in its order")
ok(
    until(lambda: status == [b"online", b"offline", b"online"], watcher, client),
    "the will was delivered, and the birth again",
)

# the subscription lives in the kept session
watcher.publish(topic("command/a"), b"1")
ok(until(lambda: commands == [b"1"], client, watcher), "a kept session keeps its subscription")

# the broker forgets the session
want("broker forget")
ok(
    until(
        lambda: client.stats["connects"] == 3 and client.connected and watcher.connected,
        client,
        watcher,
    ),
    "both are back after a restart",
)
ok(granted(client), "and subscribed again")
ok(granted(watcher), "the observer, too")
watcher.publish(topic("command/a"), b"2")
ok(until(lambda: commands == [b"1", b"2"], client, watcher), "commands come")

# an unsubscribe while there is no connection
kept = collector(client, "~/command/kept")
ok(granted(client), "one more subscription")
want("broker stop")
ok(until(lambda: not client.connected, client), "the loss is noticed")
client.unsubscribe("~/command/+")
offline = [client.publish("~/data", "offline") for _ in range(40)]
ok(not any(delivery.acknowledged for delivery in offline), "what is published offline waits")
want("broker start")
ok(until(lambda: client.connected and watcher.connected, client, watcher), "back again")
ok(until(lambda: client.flush(0), client, watcher), "what was published offline is delivered")
ok(all(delivery.acknowledged for delivery in offline), "all of it")
ok(
    until(lambda: not client._connection.inbox.requests and granted(watcher), client, watcher),
    "requests are through",
)
watcher.publish(topic("command/a"), b"3")
watcher.publish(topic("command/kept"), b"4")
ok(until(lambda: kept == [b"4"], client, watcher), "the other subscription stands")
ok(commands == [b"1", b"2"], "what was unsubscribed offline does not come any more")
ok(
    client.stats["failures"] >= 3 and client.last_error is not None,
    "failures are counted, the last one kept",
)
client.disconnect()
watcher.disconnect()
