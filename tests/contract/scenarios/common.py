"""What the scenarios share. Plain Python that runs on CPython and on MicroPython; no pytest, no
typing.

A scenario prints `ok <what>` for each check that held, and ends with an exception at the first that
did not. What it wants done to the broker or the network it prints as `want <what>` and then waits
for an answer on its standard input: test_contract.py does it, and on a board `provision selftest`.
"""

import json
import os
import sys
import time

from securemqtt.errors import SecureMQTTError

SETTING = json.loads(sys.argv[1])
if SETTING.get("face") == "asyncio":
    from asyncio_face import Client
else:
    from securemqtt import Client
# Whether a thread serves the network while the program does something else.
THREADED = sys.implementation.name == "cpython" and SETTING.get("face") != "asyncio"


def _told(name):
    """A number from the environment; a board has none, and is told by its setting."""
    return float(SETTING[name] if name in SETTING else os.getenv(name))


# How many times slower this machine is than the one by which times were chosen.
SLOWNESS = _told("SECUREMQTT_TEST_SLOWNESS")
# Long enough for this machine; nothing waits for it when all is well.
PATIENCE_S = _told("SECUREMQTT_TEST_PATIENCE_S")
# What a busy machine adds to a time that has a bound.
SLACK_S = _told("SECUREMQTT_TEST_SLACK_S")


def ok(held, what):
    if not held:
        raise AssertionError(what)
    print("ok", what)


def want(what):
    print("want", what)
    if sys.stdin.readline().strip() != "done":
        raise AssertionError(what + " was not done")


def device(**options):
    """The device under test: it reaches the broker through the proxy."""
    return Client(SETTING["bundle"], **options)


def observer():
    """An operator's client, which may read every device's topics, and goes to the broker
    directly.
    """
    return Client(SETTING["operator"], status=False, clean_session=True)


def topic(name):
    return "devices/" + SETTING["id"] + "/" + name


def until(condition, *clients, limit_s=PATIENCE_S):
    """Serve the clients until the condition holds; return True if it does in time."""
    end = time.time() + limit_s
    while not condition():
        if time.time() > end:
            return False
        for client in clients:
            client.wait(0.02)
    return True


def failure_of(call, *arguments, **options):
    """The name of the class of the error that a call raises, "" for none of ours."""
    try:
        call(*arguments, **options)
    except SecureMQTTError as error:
        return type(error).__name__
    return ""


def collector(client, topic_filter, qos=1):
    """Subscribe, and return the list in which the payloads will be."""
    received = []
    client.subscribe(topic_filter, lambda message: received.append(message.payload), qos)
    return received


def subscriptions(client):
    """The client's subscriptions, as it keeps them."""
    return client._connection.make_inbox().subscriptions.values()


def granted(client):
    """Wait until the broker has granted every subscription."""
    return until(lambda: all(entry.granted for entry in subscriptions(client)), client)
