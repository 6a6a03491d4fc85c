"""A device that does what it is told, line by line, on its standard input: for tests that play the
broker themselves.

Each line is an expression; its value comes back as JSON after `= `, or the name of the exception
after `! `. While it waits for the next line it serves the network, but calls no handlers. Runs on
both interpreters.
"""

import json
import select
import sys
import time

from securemqtt import Client, log_to

client = None
messages = []
patience_s = None
kept = []
log_text = []


def make(bundle, options, patience):
    """Make the client; what must come may take `patience` seconds."""
    global client, patience_s
    patience_s = patience
    client = Client(bundle, **options)


def subscribe(topic_filter, qos):
    client.subscribe(
        topic_filter,
        lambda message: messages.append(
            [message.topic, message.payload.decode(), message.qos, message.dup]
        ),
        qos,
    )


def keep_later(topic_filter):
    """Subscribe, and keep what comes until the test acknowledges it."""
    client.subscribe(topic_filter, kept.append, acknowledge="later")


def log_lines():
    """Collect what the log says from now on."""
    log_to(lambda level, text: log_text.append(text))


def waiting():
    """The messages that wait for their handlers."""
    return client._connection.inbox.messages if client._connection.inbox else []


def granted():
    """Return True if the broker has granted every subscription."""
    return all(entry.granted for entry in client._connection.inbox.subscriptions.values())


def failures_from_now():
    """Have a later look at the counter of failures see those from now on only."""
    client._connection.counters["failures"] = 0


def link_until(condition, timeout_s=None):
    """Serve the network, but call no handlers, until the condition holds."""
    end = time.time() + (patience_s if timeout_s is None else timeout_s)
    while not condition() and time.time() < end:
        client._connection.wait_until(condition, 20)
    return bool(condition())


def until(condition):
    """Serve the network and the handlers until the condition holds."""
    end = time.time() + patience_s
    while not condition() and time.time() < end:
        client.wait(0.02)
    return bool(condition())


def error():
    """The name of the class of the last error."""
    return type(client.last_error).__name__ if client.last_error else None


lines = select.poll()
lines.register(sys.stdin, select.POLLIN)
while True:
    while client and not lines.poll(0):
        client._connection.wait_until(lambda: False, 5)
    line = sys.stdin.readline()
    if not line:
        break
    try:
        value = eval(line)  # noqa: S307  (from the test that started this)
        print(
            "=",
            json.dumps(value if isinstance(value, (bool, int, float, str, list, dict)) else None),
        )
    except Exception as exception:  # noqa: BLE001
        print("!", type(exception).__name__, exception)
