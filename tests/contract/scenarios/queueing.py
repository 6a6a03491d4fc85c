"""The outbox: bounds and what happens at them, expiry, and what a leave keeps."""

import time

from common import PATIENCE_S, collector, device, failure_of, granted, observer, ok, topic, until

watcher = observer()
seen = collector(watcher, topic("queue"))
watcher.connect()
ok(granted(watcher), "the observer subscribed")


def numbers(client, count):
    """Connect, deliver, and return what arrived."""
    del seen[:]
    client.connect()
    if not until(lambda: client.flush(0) and len(seen) == count, client, watcher):
        raise AssertionError(f"{len(seen)} of {count} arrived")
    client.disconnect()
    return [int(payload) for payload in seen]


refusing = device(outbox_messages=5)
for count in range(5):
    refusing.publish("~/queue", str(count))
ok(
    failure_of(refusing.publish, "~/queue", "5") == "OutboxFull",
    "a full outbox refuses: OutboxFull",
)
ok(refusing.stats["dropped"] == 1, "and counts it")
ok(numbers(refusing, 5) == [0, 1, 2, 3, 4], "what was taken is delivered")
ok(refusing.publish("~/queue", "6").acknowledged is False, "there is room again")

oldest = device(outbox_messages=5, outbox_full="drop_oldest")
deliveries = [oldest.publish("~/queue", str(count)) for count in range(8)]
ok(
    [delivery.dropped for delivery in deliveries] == [True] * 3 + [False] * 5,
    "drop_oldest drops the oldest",
)
ok(not deliveries[0].wait(1), "and a wait for such a one ends at once")
ok(numbers(oldest, 5) == [3, 4, 5, 6, 7], "the newest are delivered")
ok(oldest.stats["dropped"] == 3, "each drop is counted")

newest = device(outbox_messages=5, outbox_full="drop_newest")
deliveries = [newest.publish("~/queue", str(count)) for count in range(8)]
ok(
    [delivery.dropped for delivery in deliveries] == [False] * 5 + [True] * 3,
    "drop_newest drops the new ones",
)
ok(numbers(newest, 5) == [0, 1, 2, 3, 4], "the oldest are delivered")
ok(newest.stats["dropped"] == 3, "each drop is counted here, too")

bounded = device(outbox_bytes=1000)
while failure_of(bounded.publish, "~/queue", "7" * 100) == "":
    ok(
        bounded._connection.outbox.bytes <= 1000,
        f"{bounded._connection.outbox.bytes} bytes queued of 1,000",
    )
ok(bounded._connection.outbox.count >= 3, "some fit")
ok(
    failure_of(bounded.publish, "~/queue", "7" * 2000) == "MessageTooLarge",
    "one that can never fit: MessageTooLarge",
)

stale = device()
deliveries = [
    stale.publish("~/queue", str(count), expires_s=0.05 if count % 2 else None)
    for count in range(6)
]
time.sleep(0.1)  # only the time makes them stale; nothing shows it before they are due
ok(numbers(stale, 3) == [0, 2, 4], "what expired is not sent")
ok([delivery.dropped for delivery in deliveries] == [False, True] * 3, "and is marked as dropped")
ok(not stale._connection.outbox.count and not stale._connection.outbox.bytes, "and forgotten")

kept = device(port=1)
kept.publish("~/queue", "1")
ok(
    failure_of(kept.connect, PATIENCE_S) == "ConnectionRefused"
    and kept._connection.outbox.count == 1,
    "what could not be sent stays",
)
watcher.disconnect()
