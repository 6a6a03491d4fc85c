"""What the scenarios that are written for asyncio use."""

import asyncio
import time

from common import PATIENCE_S, SETTING, ok, topic

from securemqtt.aio import Client


def device(**options):
    return Client(SETTING["bundle"], **options)


async def until(condition, limit_s=PATIENCE_S):
    """Let other tasks run until the condition holds; return True if it does in time."""
    end = time.time() + limit_s
    while not condition():
        if time.time() > end:
            return False
        await asyncio.sleep(0.01)
    return True


async def ended(task):
    """Wait for a task that is to end; return what it raised, None if nothing."""
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    except Exception as error:  # noqa: BLE001  (whatever it is, the test compares it)
        return type(error).__name__
    return None


async def granted(client):
    subscriptions = client._connection.make_inbox().subscriptions.values()
    return await until(lambda: all(one.granted for one in subscriptions))


async def collect(client, topic_filter, into, qos=1):
    async for message in client.messages(topic_filter, qos):
        into.append(message.text())


async def command(operator, name, *texts):
    """Have an operator send commands, and wait until the broker has them."""
    for text in texts:
        delivery = await operator.publish(topic("command/" + name), text)
    ok(await delivery, "the broker has " + name + " " + text)
