"""`with client:` in a program that runs unattended: it goes on without the network, and ends when
it is told to.
"""

from common import (
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

away = device(port=SETTING["closed_port"], connect_timeout_s=1)
errors = []
away.on_error(errors.append)
with away:
    ok(not away.connected, "the block is entered without a connection")
    ok(type(away.last_error).__name__ == "ConnectionRefused", "last_error tells why")
    kept = away.publish("~/kept", "1")
    ok(until(lambda: away.stats["failures"] >= 3, away), "it goes on trying")
    away.poll()
    names = [type(error).__name__ for error in errors]
    # Another reason may come beside it where the machine is busy.
    ok(
        names.count("ConnectionRefused") == 1,
        "on_error was told of the reason, once: " + str(names),
    )
ok(away.state == "closed" and not kept.acknowledged, "and leaves")

# What is wrong with the device itself is raised.
ok(failure_of(device, key="no-such-file") == "FileMissing", "a missing file: at once")

# The power comes back, and the broker later than the device.
watcher = observer()
seen = []
watcher.subscribe(topic("kept"), lambda message: seen.append(message.text()))
watcher.connect()
until(lambda: watcher.stats["connects"] == 1, watcher)
watcher.disconnect()
want("broker stop")
# A handshake on a board must have its time, too.
client = device(connect_timeout_s=max(1, SLOWNESS))
with client:
    ok(not client.connected, "the broker is away, and the block is entered")
    client.publish("~/kept", "2", retain=True)  # whoever comes first
    want("broker start")
    watcher.start()
    ok(until(lambda: client.connected, client, watcher), "it connects when the broker is back")
    ok(until(lambda: "2" in seen, client, watcher), "what was published meanwhile arrives")

# disconnect() in a handler ends run_forever.
ended = device()
ended.subscribe("~/command/end", lambda message: ended.disconnect())
watcher.start()
ended.start()
ok(until(lambda: ended.connected and watcher.connected, ended, watcher), "both are connected")
ok(granted(ended), "and the broker has its subscription")
watcher.publish(topic("command/end"), "now")
ok(watcher.flush(20), "the command was sent")
ended.run_forever()
ok(ended.state == "closed", "run_forever has ended")
ok(failure_of(device().run_forever) == "UsageError", "what was not started cannot be served")
watcher.disconnect()
