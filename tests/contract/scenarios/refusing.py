"""One message that is too large for the broker: what lies behind it arrives, it is told, and a
restart and a program that wakes, connects once and sleeps get past it, too.

test_refusing.py runs this.
"""

from common import SETTING, SLOWNESS, device, failure_of, observer, ok, topic, until

LARGE = SETTING["large"]
# What the contract promises, where handshakes take no time.
BEHIND_S = 60 * SLOWNESS


def make(**options):
    return device(
        outbox_bytes=4 * LARGE,
        outbox_journal_bytes=max(65536, 20 * LARGE),
        **options,
    )


watcher = observer()
arrived = []
watcher.subscribe(topic("behind"), lambda message: arrived.append(message.text()))
watcher.connect()

client = make()
told = []
client.on_error(lambda error: told.append(error))
client.connect()
before = client.publish("~/before", "a")
large = client.publish("~/large", bytes(LARGE), qos=SETTING["qos"])
behind = [client.publish("~/behind", str(number)) for number in range(30)]
ok(
    until(lambda: len(arrived) >= 30, client, watcher, limit_s=BEHIND_S),
    "what lies behind it arrives",
)
ok(arrived[:30] == [str(number) for number in range(30)], "in its order")
ok(until(lambda: large.parked, client, limit_s=BEHIND_S), "it is parked")
ok(
    until(
        lambda: before.acknowledged and all(one.acknowledged for one in behind),
        client,
        limit_s=BEHIND_S,
    ),
    "the others are acknowledged",
)
ok(not large.wait(30) and not client.flush(30), "nobody waits for it")
ok(client.stats["parked"] == 1 and client.pending == 1, "it is counted")
client.poll()
names = [type(error).__name__ for error in told]
# That the connection was lost is told, too, once for each that stood.
ok([name for name in names if name != "ConnectionLost"] == ["MessageRefused"], "and told")
ok(topic("large") in str(large.error) and str(LARGE) in str(large.error), "with topic and size")
ok(client.publish("~/behind", "later").wait(30), "others go on")
client.disconnect()


def wake(number):
    """Wake, send a reading over one connection, and sleep; return True if nothing but what is
    parked is left.
    """
    client = make(outbox="durable")
    if number == 0:
        client.publish("~/large", bytes(LARGE))
    client.publish("~/behind", "reading " + str(number))
    client.start()
    until(
        lambda: client.stats["failures"] or client.pending == client.stats["parked"],
        client,
    )
    done = client.pending == client.stats["parked"] == 1
    client.disconnect()
    return done


wakes = 1
while not wake(wakes - 1):
    wakes += 1
    ok(wakes < 15, "it sleeps")
ok(
    until(lambda: "reading " + str(wakes - 1) in arrived, watcher),
    "the readings arrive",
)
ok(
    all("reading " + str(number) in arrived for number in range(wakes)),
    "all of them",
)
client = make(outbox="durable")
client.connect()
ok(not client.flush(30) and client.stats["parked"] == 1, "a start knows what is parked")
ok(client.stats["failures"] == 0, "and is no reason to try it again")
client.disconnect()

limited = make(max_publish_bytes=SETTING["limit"])
ok(
    failure_of(limited.publish, "~/large", bytes(LARGE)) == "MessageTooLarge",
    "where the limit is known, publish says so",
)
limited.connect()
ok(
    limited.publish("~/large", bytes(SETTING["limit"] - 9 - len(topic("large")))).wait(30),
    "the largest that it lets through arrives",
)
limited.disconnect()
watcher.disconnect()
