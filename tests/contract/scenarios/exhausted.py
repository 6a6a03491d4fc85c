"""Memory that runs out while a message is written costs the connection, and no message. MicroPython only."""

from common import collector, device, observer, ok, settled, topic, until

client = device()
watcher = observer()
seen = collector(watcher, topic("readings"))
watcher.connect()
client.connect()
ok(settled(watcher), "the observer subscribed")

link = client._link
write = link.publish
failures = []


def exhausted(*packet: object) -> None:
    if not failures:
        failures.append(packet)
        raise MemoryError
    write(*packet)


link.publish = exhausted
for count in range(5):
    client.publish("~/readings", str(count))
ok(until(lambda: client.flush(0), client, watcher), "each is acknowledged")
ok(until(lambda: len(seen) >= 5, watcher, client) and [int(p) for p in seen] == list(range(5)), "all there, in order")
ok(client.stats["failures"] == 1 and client.stats["reconnects"] == 1, "the connection was made anew")
ok(type(client.last_error).__name__ == "OutOfMemory", "and the error says why")
client.disconnect()
watcher.disconnect()
