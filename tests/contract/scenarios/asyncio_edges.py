"""What programs do to the asyncio face that its page does not show: messages taken one by one, time
limits, a second attempt right behind the first, event loops that come and go.
"""

import asyncio
import time

from asyncio_common import collect, command, device, ended, granted, until
from common import PATIENCE_S, SETTING, SLACK_S, ok, want

from securemqtt.aio import Client
from securemqtt.errors import UsageError


async def one_by_one(client, operator):
    """Take messages without a loop: in this task, and in tasks that end with what they took."""
    messages = client.messages("~/command/single")
    ok(await granted(client), "subscribed")
    await command(operator, "single", "1", "2", "3", "4", "5", "6")
    inbox = client._connection.inbox
    ok(await until(lambda: inbox._bytes), "and sent")
    taken = []
    for _ in range(2):
        # in a task of its own, on a board and before Python 3.12
        message = await asyncio.wait_for(messages.__anext__(), PATIENCE_S)
        taken.append(message.text())
    ok(taken == ["1", "2"], "wait_for: one message after the other")
    others = []
    other = asyncio.create_task(collect(client, "~/command/single", others))
    ok(await until(lambda: "6" in others), "another task takes from the same filter")
    ok(others == ["3", "4", "5", "6"], "not what is being worked at here")
    other.cancel()
    await ended(other)
    await command(operator, "single", "7", "8")

    async def next_text():
        return (await messages.__anext__()).text()

    taken = []
    for _ in range(2):
        taken.append(await asyncio.create_task(next_text()))
    ok(taken == ["7", "8"], "a task for each message, as at a prompt")
    taken = []
    tasks = [asyncio.create_task(next_text()) for _ in range(2)]
    ok(await until(lambda: len(client._driver._waiters) == 2), "two tasks wait at once")
    for task in tasks:
        await command(operator, "single", str(9 + len(taken)))
        taken.append(await task)
    await command(operator, "single", "11")
    taken.append(await next_text())
    ok(taken == ["9", "10", "11"], "each has one, and then this one")
    at_work = client._queues["devices/" + SETTING["id"] + "/command/single"]._taken
    ok(len(at_work) == 1, "what both were through with is not given back")
    client.unsubscribe("~/command/single")
    ok(inbox._bytes == 0, "all of it is acknowledged")


async def in_order_again(client, operator):
    """Two tasks end amid a message: both come again, in their order."""

    taking = []

    async def fail(messages):
        taking.append((await messages.__anext__()).text())
        await until(lambda: len(taking) == 2)
        raise ValueError("amid a message")

    messages = client.messages("~/command/order")
    ok(await granted(client), "one more filter")
    tasks = [asyncio.create_task(fail(messages)) for _ in range(2)]
    await command(operator, "order", "1", "2", "3")
    for task in tasks:
        ok(await ended(task) == "ValueError", "a task ends amid a message")
    taken = []
    for _ in range(3):
        taken.append((await messages.__anext__()).text())
    ok(taken == ["1", "2", "3"], "what two tasks were at comes first, in order")
    client.unsubscribe("~/command/order")


async def kept_by_the_broker(client, operator):
    """What is retained comes once, however many tasks take from a filter."""
    delivery = await operator.publish("devices/" + SETTING["id"] + "/command/kept", "on", 1, True)
    ok(await delivery, "the broker keeps a message")
    taken = []
    tasks = [asyncio.create_task(collect(client, "~/command/kept", taken)) for _ in range(3)]
    await asyncio.sleep(0)
    ok(await granted(client), "three tasks, one filter")
    await command(operator, "kept", "last")
    ok(await until(lambda: "last" in taken), "they take")
    ok(taken == ["on", "last"], "what is retained comes to one of them, once")
    tasks.append(asyncio.create_task(collect(client, "~/command/kept", taken, 0)))
    ok(await until(lambda: len(taken) == 3), "with another QoS it is asked for anew")
    for task in tasks:
        task.cancel()
        await ended(task)
    client.unsubscribe("~/command/kept")
    await operator.publish("devices/" + SETTING["id"] + "/command/kept", "", 1, True)


async def at_once_again():
    """Connect again in the very step in which an attempt was cancelled."""
    client = device()
    want("up hold")

    async def attempt():
        try:
            await client.connect(PATIENCE_S)
        except asyncio.CancelledError:
            client.start()
            raise

    attempting = asyncio.create_task(attempt())
    ok(await until(lambda: client.state == "connecting"), "an attempt is under way")
    attempting.cancel()
    ok(await ended(attempting) == "cancelled", "connect: cancelled")
    want("up release")
    ok(await until(lambda: client.connected), "started at once again, it connects")
    waiting = asyncio.create_task(collect(client, "~/command/end", []))
    want("up hold")
    await client.publish("~/held", "1")
    leaving = asyncio.create_task(client.disconnect(PATIENCE_S))
    ok(await until(lambda: client._connection.left or client._driver._waiters), "it delivers")
    begun = time.time()
    leaving.cancel()
    ok(await ended(leaving) == "cancelled", "disconnect: cancelled while it delivers")
    ok(time.time() - begun < SLACK_S and client.state == "closed", "leaves at once")
    ok(await ended(waiting) is None, "who waits for messages is told")
    want("up release")


async def no_memory(client):
    """Memory that other tasks keep, so that there is none between two turns."""
    rest = client._driver._rest
    pause = rest.pause
    failures = []

    async def exhausted(idle_ms, longest_ms):
        if not failures:
            failures.append(idle_ms)
            raise MemoryError
        await pause(idle_ms, longest_ms)

    rest.pause = exhausted
    ok(await until(lambda: failures), "a turn for which there is no memory")
    ok(await (await client.publish("~/after", "1")), "the client goes on after it")
    rest.pause = pause


async def leaves(client):
    """Wait until a task has begun to leave, and no longer: that takes but a few steps."""
    while not client._driver._leaving or client._driver._task is None:
        await asyncio.sleep(0)


async def while_it_leaves():
    """Connect again while another task is leaving."""
    client = device()
    await client.connect(PATIENCE_S)
    leaving = asyncio.create_task(client.disconnect())
    await leaves(client)
    await client.connect(PATIENCE_S)
    ok(client.connected and client.stats["connects"] == 2, "another connects once that is done")
    ok(await ended(leaving) is None, "who left has")
    leaving = asyncio.create_task(client.disconnect())
    await leaves(client)
    try:
        client.start()
        what = ""
    except UsageError as error:
        what = error.what
    ok("about to leave" in what, "start cannot wait for it, and says so")
    await leaving


async def broken():
    """A mistake of the program's that has ended the client's own task."""
    client = device()
    await client.connect(PATIENCE_S)

    def mistaken(wait_ms):
        raise ValueError("a mistake")

    turn = client._connection.turn
    client._connection.turn = mistaken
    ok(await until(lambda: client.state == "closed"), "it has ended")
    publishing = asyncio.create_task(client.publish("~/a", "1"))
    ok(await ended(publishing) == "ValueError", "publish says why")
    client._connection.turn = turn
    await client.connect(PATIENCE_S)
    ok(client.connected, "started again, it is well")
    await client.disconnect()


async def main():
    async with Client(SETTING["operator"], status=False, clean_session=True) as operator:
        async with device() as client:
            await one_by_one(client, operator)
            await in_order_again(client, operator)
            await kept_by_the_broker(client, operator)
            await no_memory(client)
        await at_once_again()
    await while_it_leaves()
    await broken()


asyncio.run(main())

# An event loop that is gone, with the client connected in it.
ours = device()
loop = asyncio.new_event_loop()
loop.run_until_complete(ours.connect(PATIENCE_S))
ok(ours.connected, "connected in a first event loop")
left = [loop.create_task(collect(ours, "~/command/never", []))]
loop.run_until_complete(granted(ours))
if hasattr(loop, "shutdown_asyncgens"):  # CPython's
    loop.close()
loop = asyncio.new_event_loop()
loop.run_until_complete(ours.connect(PATIENCE_S))
ok(ours.connected, "and in a second one, once the first is gone")
loop.run_until_complete(ours.disconnect())
ok(ours.state == "closed", "left")
