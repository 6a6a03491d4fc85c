"""A handler that takes longer than the broker waits for a sign of life: it runs once."""

import time

from common import device, granted, observer, ok, topic, until

client = device(keep_alive_s=5)
operator = observer()
runs = []
others = []


def long(message):
    runs.append(message.payload)
    time.sleep(9)


client.subscribe("~/command/long", long)
client.subscribe("~/command/other", lambda message: others.append(message.payload))
client.connect()
operator.connect()
ok(granted(client), "subscribed")
operator.publish(topic("command/long"), b"1")
operator.publish(topic("command/other"), b"2")
ok(operator.flush(20), "a command was sent")
ok(until(lambda: others, client), "the message behind it is handled")
ok(runs == [b"1"], "the command ran once")
end = time.time() + 6
until(lambda: time.time() > end, client)
ok(runs == [b"1"] and others == [b"2"], "and is not run again")
operator.connect()
operator.publish(topic("command/other"), b"3")
ok(until(lambda: len(others) == 2, client, operator), "what comes later is handled")
client.disconnect()
operator.disconnect()
