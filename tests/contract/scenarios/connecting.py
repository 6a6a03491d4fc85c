"""Connect, leave, come back; birth and will; what is refused."""

import time

from common import (
    PATIENCE_S,
    SETTING,
    SLOWNESS,
    device,
    failure_of,
    granted,
    observer,
    ok,
    topic,
    until,
    want,
)

from securemqtt.protocol import backoff

client = device()
ok(client.state == "closed" and not client.connected, "a new client is closed")
states = []
client.on_state(states.append)

watcher = observer()
seen = []
watcher.subscribe(topic("status"), lambda message: seen.append(message.text()))
watcher.connect()
ok(granted(watcher), "the observer subscribed")

with client:
    ok(client.connected and client.state == "connected", "with connects")
    ok(until(lambda: seen == ["online"], watcher, client), "birth: online")
    client.poll()
    ok(states == ["starting", "connecting", "connected"], "the states were told")
ok(client.state == "closed" and not client.connected, "with leaves")
ok(until(lambda: seen == ["online", "offline"], watcher), "an orderly leave says offline")

client.connect(PATIENCE_S)
client.connect(PATIENCE_S)
ok(client.connected and client.stats["connects"] == 2, "it connects again, and once only")
client.disconnect()
client.disconnect()
ok(client.state == "closed", "it leaves again")
ok(until(lambda: len(seen) == 4, watcher), "birth and leave again")

late = observer()
watcher.disconnect()
retained = []
late.subscribe(topic("status"), lambda message: retained.append((message.text(), message.retain)))
late.connect()
ok(until(lambda: retained, late) and retained == [("offline", True)], "the status is retained")
late.disconnect()

quiet = device(status=False)
quiet.connect()
ok(quiet.flush(PATIENCE_S), "nothing is left to send")
quiet.disconnect()


def no_memory():
    raise MemoryError


start_now = quiet._connection.start_now
quiet._connection.start_now = no_memory
for name, enter in (("connect", quiet.connect), ("with", quiet.__enter__)):
    ok(failure_of(enter) == "OutOfMemory", name + ": memory runs out")
    ok(quiet.state == "closed", name + ": and the client has left")
quiet._connection.start_now = start_now
quiet.connect()
ok(quiet.connected, "it can be tried again")
quiet.disconnect()

refusing = device(port=SETTING["closed_port"])
ok(
    failure_of(refusing.connect, PATIENCE_S) == "ConnectionRefused",
    "a closed port: ConnectionRefused",
)
ok(
    refusing.state == "closed" and refusing.last_error.transient,
    "connect gives up, and says that it may pass",
)

# started, it goes on trying
refusing.start()
ok(until(lambda: refusing.stats["failures"] >= 3, refusing), "start goes on trying")
ok(type(refusing.last_error).__name__ == "ConnectionRefused", "last_error tells why")
refusing.disconnect()
ok(refusing.state == "closed", "and can be stopped")

want("up hold")
silent = device(connect_timeout_s=1)
next_delay = backoff.next_delay
# so that the next attempt would begin at once
backoff.next_delay = lambda uniform, failures, *details: (0, failures + 1)
ok(failure_of(silent.connect, PATIENCE_S) == "TimedOut", "a broker that does not answer: TimedOut")
ok(silent.stats["failures"] == 1, "connect is one attempt, however short the back-off")
backoff.next_delay = next_delay
hasty = device()
ok(failure_of(hasty.connect, 0.5) == "TimedOut", "connect keeps to its own time-out")
lengthy = device(connect_timeout_s=1, will=("~/last-words", "x" * 2000))
begun = time.time()
ok(
    failure_of(lengthy.connect, PATIENCE_S) == "TimedOut",
    "nor does one with a long CONNECT wait for it",
)
# A board's stream waits for 5 s where it has to.
ok(time.time() - begun < 1 + 3 * SLOWNESS, "it keeps to its own time-out")
want("up release")

unknown = device(host="no-such-host.invalid")
ok(
    failure_of(unknown.connect, PATIENCE_S) == "NameNotResolved",
    "a name that does not resolve: NameNotResolved",
)

# The operator's client id with the device's certificate and the other way round are for the broker
# to refuse; what is for us to refuse comes before the network.
for name, options in (
    ("UsageError", {"colour": "red"}),
    ("UsageError", {"port": 0}),
    ("UsageError", {"port": "8883"}),
    ("UsageError", {"client_id": "a/b"}),
    ("UsageError", {"keep_alive_s": 0}),
    ("UsageError", {"window": 0}),
    ("UsageError", {"transport": "tcp"}),
    ("UsageError", {"outbox_full": "panic"}),
    ("InvalidTopic", {"will": ("a/#", b"")}),
):
    ok(failure_of(device, **options) == name, f"Client({options}): {name}")

verbose = device(will=("~/last-words", "x" * 2000))
verbose.connect()
ok(verbose.connected, "a CONNECT of more than a TLS record")
verbose.disconnect()
