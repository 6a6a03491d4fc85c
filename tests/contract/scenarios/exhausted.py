"""Memory that runs out while a message is written, or noted, costs the connection, and no message.

MicroPython only.
"""

from common import collector, device, granted, observer, ok, topic, until

client = device()
watcher = observer()
seen = collector(watcher, topic("readings"))
watcher.connect()
client.connect()
ok(granted(watcher), "the observer subscribed")

link = client._connection.link
window = link.session
write = link.publish
add = window.add
failures = []


def exhausted(*packet: object) -> None:
    if not failures:
        failures.append(packet)
        raise MemoryError
    write(*packet)


def full(what: object) -> int:
    if len(failures) == 1:
        failures.append(what)
        raise MemoryError
    return add(what)


link.publish = exhausted
for count in range(10):
    if count == 5:
        window.add = full
    client.publish("~/readings", str(count))
    if count in (4, 9):
        ok(until(lambda: client.flush(0), client, watcher), "each is acknowledged")
        ok(until(lambda wanted=count + 1: len(seen) >= wanted, watcher, client), "all are there")
        ok([int(payload) for payload in seen] == list(range(count + 1)), "once each, in order")
        ok(
            client.stats["failures"] == client.stats["reconnects"] == len(failures) == count // 4,
            "the connection was made anew",
        )
        ok(type(client.last_error).__name__ == "OutOfMemory", "and the error says why")
client.disconnect()
watcher.disconnect()
