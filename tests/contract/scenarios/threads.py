"""publish from several threads at once, while the main one serves handlers. CPython only."""

import threading

from common import device, granted, ok, until

client = device(outbox_messages=20000)
received = {}
client.subscribe(
    "~/thread/+",
    lambda message: received.setdefault(message.topic[-1], []).append(int(message.payload)),
)
client.connect()
ok(granted(client), "subscribed")


def publish(name):
    for count in range(500):
        client.publish("~/thread/" + name, str(count))


threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
for thread in threads:
    thread.start()
ok(
    until(lambda: sum(map(len, received.values())) == 2000, client),
    "all of four threads' messages came",
)
for thread in threads:
    thread.join()
ok(all(received[name] == list(range(500)) for name in "abcd"), "each thread's in its order")
ok(client.flush(20) and client.stats["acknowledged"] == 2000, "all acknowledged")
client.disconnect()
ok(
    not [thread for thread in threading.enumerate() if thread.name == "securemqtt"],
    "no thread is left behind",
)
