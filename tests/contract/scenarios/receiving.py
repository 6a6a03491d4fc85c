"""What comes in: handlers, their exceptions, and what they may do."""

import json

from common import PATIENCE_S, collector, device, granted, observer, ok, topic, until

client = device()
operator = observer()
messages = []
client.subscribe("~/command/+", messages.append)
client.connect()
operator.connect()
ok(granted(client), "subscribed")

operator.publish(topic("command/led"), {"on": True})
ok(until(lambda: messages, client, operator), "a command came")
message = messages.pop()
ok(
    message.topic == topic("command/led") and message.payload == b'{"on": true}',
    "topic and payload",
)
ok(
    message.json() == {"on": True} and message.text() == json.dumps({"on": True}),
    "as JSON, as text",
)
ok(message.qos == 1 and not message.retain and not message.dup, "QoS, retain, DUP")

operator.publish(topic("command/led"), b"zero", qos=0)
ok(until(lambda: messages, client, operator) and messages.pop().qos == 0, "a QoS 0 message")

# a handler that fails
errors = []
client.on_error(errors.append)


def failing(message):
    raise ValueError("handler")


client.subscribe("~/command/fail", failing)
ok(granted(client), "a second subscription")
operator.publish(topic("command/fail"), b"1")
operator.publish(topic("command/next"), b"2")
ok(
    until(lambda: len(messages) == 2, client, operator),
    "an exception in a handler does not end the loop, nor keep others from the message",
)
ok(len(errors) == 1 and isinstance(errors[0], ValueError), "it is reported")
del messages[:]


# a handler that publishes, waits for it, and serves the network
def answering(message):
    delivery = client.publish("~/answer", message.payload)
    if not delivery.wait(PATIENCE_S):
        raise AssertionError("the answer was not acknowledged")
    client.wait(0.05)


answers = collector(operator, topic("answer"))
ok(granted(operator), "the operator listens for answers")
client.subscribe("~/command/ask", answering)
ok(granted(client), "a third subscription")
for count in range(5):
    operator.publish(topic("command/ask"), str(count))
ok(
    until(lambda: len(answers) == 5, client, operator),
    "publish, Delivery.wait and wait() work in a handler",
)
ok([int(answer) for answer in answers] == list(range(5)), "one message after the other")
ok(len(errors) == 1, "and nothing went wrong in there")
ok(until(lambda: len(messages) == 5, client), "the other handler had them, too")
del messages[:]

# no more than one handler per filter
replaced = []
client.subscribe("~/command/+", replaced.append)
ok(granted(client), "a handler is replaced")
operator.publish(topic("command/led"), b"new")
ok(until(lambda: replaced, client, operator) and not messages, "the new one only is called")

client.unsubscribe("~/command/+")
client.unsubscribe("~/command/never")
ok(until(lambda: not client._connection.inbox.requests, client), "unsubscribed")
listening = collector(client, "~/end")
ok(granted(client), "and subscribed to something else")
del replaced[:]
operator.publish(topic("command/led"), b"unheard")
client.publish("~/end", b"")
ok(
    until(lambda: listening, client, operator) and not replaced,
    "what was unsubscribed does not come any more",
)

# in the order in which they were sent, many of them
many = collector(client, "~/command/many")
ok(granted(client), "a subscription to many")
for count in range(200):
    operator.publish(topic("command/many"), str(count))
    if count % 20 == 19:
        until(lambda: operator.flush(0), operator, client)
ok(
    until(lambda: len(many) == 200, client, operator)
    and [int(payload) for payload in many] == list(range(200)),
    "200 in their order",
)
ok(client.stats["received"] >= 200 and not client.stats["dropped"], "counted")

large = bytes(range(256)) * 20
big = collector(client, "~/command/big")
ok(granted(client), "a subscription to something big")
operator.publish(topic("command/big"), large)
ok(until(lambda: big, client, operator) and big == [large], "5,120 bytes came whole")

limited = device(max_packet_bytes=1000, status=False)
client.disconnect()
small = collector(limited, "~/command/+")
limited.connect()
ok(granted(limited), "a client that takes 1,000 bytes")
operator.publish(topic("command/x"), bytes(5000))
operator.publish(topic("command/x"), b"small")
ok(
    until(lambda: small, limited, operator) and small == [b"small"],
    "what is larger is left out, what follows is not",
)
ok(
    limited.stats["oversized"] == 1 and limited.stats["connects"] == 1,
    "it is counted, and the connection stays",
)
ok(until(lambda: operator.flush(0), operator, limited), "all acknowledged")
limited.disconnect()

# What is handled right before leaving is acknowledged: it does not come again.
handled = []
hasty = device(status=False)
hasty.subscribe("~/command/+", lambda message: handled.append(message.payload))
for number in range(10):
    hasty.connect()
    if not number:
        ok(granted(hasty), "a client that leaves at once")
    operator.publish(topic("command/x"), str(number))
    while len(handled) <= number:
        operator.poll()
        hasty.poll()
    hasty.disconnect()
ok([int(payload) for payload in handled] == list(range(10)), "once each, though it left at once")
operator.disconnect()
