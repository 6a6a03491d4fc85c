"""What goes out: payloads, QoS, order, and what is refused."""

from common import PATIENCE_S, collector, device, failure_of, granted, observer, ok, topic, until

client = device(outbox_messages=400, outbox_bytes=65536)
watcher = observer()
received = []
watcher.subscribe(
    topic("#"), lambda message: received.append((message.topic, message.payload, message.retain))
)
watcher.connect()
ok(granted(watcher), "the observer subscribed")


def arrived(count):
    return until(lambda: len(received) >= count, watcher, client)


early = client.publish("~/early", "before the connection")
client.connect()
ok(early.wait(PATIENCE_S) and early.acknowledged, "what was queued before is delivered")
ok(arrived(2), "with the birth")
del received[:]

for payload, expected in (
    (b"\0\xff", b"\0\xff"),
    ("grün", "grün".encode()),
    ({"celsius": 21.5}, b'{"celsius": 21.5}'),
    ([1, None, True], b"[1, null, true]"),
    (42, b"42"),
    (None, b"null"),
    ("", b""),
    (bytearray(b"ab"), b"ab"),
):
    ok(client.publish("~/payload", payload).wait(PATIENCE_S), f"published {payload!r}")
    ok(
        arrived(1) and received.pop() == (topic("payload"), expected, False),
        "and it arrived as it should",
    )

large = bytes(range(256)) * 30
ok(
    client.publish("~/large", large).wait(PATIENCE_S) and arrived(1) and received.pop()[1] == large,
    "7,680 bytes",
)

# The observer has its turn in between: a board's inbox is small, and its session is a clean one.
for count in range(300):
    client.publish("~/order", str(count))
    if count % 20 == 19:
        client.flush(0)
        arrived(count - 39)
ok(client.flush(PATIENCE_S), "flush waits for what is left of 300 messages")
ok(
    arrived(300) and [int(payload) for _, payload, _ in received] == list(range(300)),
    "their order is kept",
)
ok(client.stats["acknowledged"] == client.stats["sent"] == 310, "and they are counted")
del received[:]

for count in range(50):
    client.publish("~/zero", str(count), qos=0)
ok(client.flush(PATIENCE_S) and arrived(50), "QoS 0 arrives where nothing is lost")
ok([int(payload) for _, payload, _ in received] == list(range(50)), "in order")
del received[:]

twice = collector(client, "~/two", 2)
ok(granted(client), "subscribed at QoS 2")
for count in range(100):
    client.publish("~/two", str(count), qos=2)
ok(client.flush(PATIENCE_S), "QoS 2 is acknowledged")
ok(
    until(lambda: len(twice) == 100, client) and [int(p) for p in twice] == list(range(100)),
    "once, in order, both ways",
)
del received[:]

client.publish("~/kept", "for later", retain=True).wait(PATIENCE_S)
late = observer()
kept = []
late.subscribe(topic("kept"), lambda message: kept.append((message.text(), message.retain)))
late.connect()
ok(until(lambda: kept, late) and kept == [("for later", True)], "a retained message is kept")
client.publish("~/kept", b"", retain=True).wait(PATIENCE_S)
late.disconnect()

ok(failure_of(client.publish, "a/#", b"") == "InvalidTopic", "a wildcard in a topic: InvalidTopic")
ok(failure_of(client.publish, "", b"") == "InvalidTopic", "no topic: InvalidTopic")
ok(failure_of(client.publish, "a\0b", b"") == "InvalidTopic", "a NUL in a topic: InvalidTopic")
ok(
    failure_of(client.publish, "~/a", print) == "InvalidPayload",
    "what JSON cannot say: InvalidPayload",
)
ok(failure_of(client.publish, "~/a", b"", qos=3) == "UsageError", "QoS 3: UsageError")
ok(
    failure_of(client.publish, "~/a", bytes(client._connection.outbox.max_bytes + 1))
    == "MessageTooLarge",
    "larger than the outbox: MessageTooLarge",
)
ok(
    client.flush(PATIENCE_S)
    and not client._connection.outbox.count
    and not client._connection.outbox.bytes,
    "nothing is left over",
)
client.disconnect()
watcher.disconnect()
