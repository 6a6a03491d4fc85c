"""What only the asyncio face has: tasks that share a client, iterators over messages, and a
cancellation at any await.
"""

import asyncio

from asyncio_common import collect, command, device, ended, granted, until
from common import PATIENCE_S, SETTING, ok, want

from securemqtt.aio import Client


async def several_iterators(client, operator):
    every, some, shared = [], [], []
    tasks = [
        asyncio.create_task(collect(client, "~/command/+", every)),
        asyncio.create_task(collect(client, "~/command/some", some)),
        asyncio.create_task(collect(client, "~/command/shared", shared)),
        asyncio.create_task(collect(client, "~/command/shared", shared)),
    ]
    await asyncio.sleep(0)
    ok(await granted(client), "four tasks over three filters")
    await command(operator, "some", "1", "2")
    await command(operator, "other", "3")
    ok(await until(lambda: len(every) == 3 and len(some) == 2), "each filter has its own")
    ok(every == ["1", "2", "3"] and some == ["1", "2"], "in order")
    await command(operator, "shared", "4", "5", "6", "7")
    ok(await until(lambda: len(shared) == 4 and len(every) == 7), "two tasks share one filter's")
    ok(sorted(shared) == ["4", "5", "6", "7"], "each message goes to one of them")
    for task in tasks:
        task.cancel()
        ok(await ended(task) == "cancelled", "a task is cancelled where it waits for a message")
    for topic_filter in ("~/command/+", "~/command/some", "~/command/shared"):
        client.unsubscribe(topic_filter)


async def acknowledged_by_asking(client, operator):
    """Take a message, and leave the loop: it is acknowledged once the next one is asked for."""
    taken = []

    async def take(count):
        async for message in client.messages("~/command/one"):
            taken.append(message.text())
            if len(taken) == count:
                return

    async def fail():
        async for message in client.messages("~/command/one"):
            taken.append(message.text())
            raise ValueError("amid a message")

    messages = client.messages("~/command/one")
    ok(await granted(client), "one more filter")
    before = client.stats["received"]
    await command(operator, "one", "a", "b", "c", "d")
    ok(await until(lambda: client.stats["received"] == before + 4), "all four have come")
    await take(1)
    inbox = client._connection.inbox
    held = inbox._bytes
    await take(2)
    ok(taken == ["a", "b"], "who takes the filter up again goes on")
    ok(inbox._bytes < held, "and acknowledges what it had")
    task = asyncio.create_task(fail())
    ok(await ended(task) == "ValueError", "a task ends amid a message")
    del taken[:]
    await take(2)
    ok(taken == ["c", "d"], "another gets that one, in its place")
    client.unsubscribe("~/command/one")
    ok(not await _next(messages), "and its iterator has ended")


async def _next(messages):
    """Take one message; return False if there will be none."""
    async for _ in messages:
        return True
    return False


async def comes_again(operator):
    """What a cancelled task was at comes again in the next session; what it was through does
    not.
    """
    taken = []

    async def listen(client):
        async for message in client.messages("~/command/again"):
            taken.append(message.text())
            if message.text() == "2":
                await asyncio.sleep(PATIENCE_S)

    async with device() as client:
        task = asyncio.create_task(listen(client))
        await asyncio.sleep(0)
        ok(await granted(client), "subscribed for the next session, too")
        await command(operator, "again", "1", "2", "3")
        ok(await until(lambda: taken == ["1", "2"]), "it is at the second one")
        task.cancel()
        ok(await ended(task) == "cancelled", "and cancelled amid that")
    del taken[:]
    async with device() as client:
        task = asyncio.create_task(collect(client, "~/command/again", taken))
        ok(await until(lambda: len(taken) == 2), "two come again")
        ok(taken == ["2", "3"], "those that were not done with")
    ok(await ended(task) is None, "an iterator ends when its client has left")


async def cancellation(client, operator):
    """Cancel each method where it waits."""
    want("down hold")
    delivery = await client.publish("~/held", "1")
    waiting = [asyncio.create_task(_await(delivery)) for _ in range(3)]
    flushing = asyncio.create_task(client.flush(PATIENCE_S))
    # three, since the first of those that await a message is noted with that message
    ok(await until(lambda: len(client._driver._waiters) == 3), "four tasks wait")
    for task in (waiting[0], flushing):
        task.cancel()
        ok(await ended(task) == "cancelled", "await delivery, flush: cancelled")
    want("down release")
    ok(await waiting[1] and await waiting[2], "who waits for the same message is told")
    ok(delivery.acknowledged and await delivery.wait(0), "it is acknowledged")
    leaving = asyncio.create_task(client.disconnect())
    await asyncio.sleep(0)
    leaving.cancel()
    await ended(leaving)
    ok(client.state == "closed", "disconnect, cancelled, has left all the same")
    want("up hold")
    connecting = asyncio.create_task(client.connect(PATIENCE_S))
    ok(await until(lambda: client.state == "connecting"), "an attempt is under way")
    connecting.cancel()
    ok(await ended(connecting) == "cancelled", "connect: cancelled")
    ok(client.state == "closed", "and nothing goes on")
    want("up release")
    await client.connect(PATIENCE_S)
    ok(client.connected and await (await client.publish("~/held", "2")), "it connects again")


async def _await(delivery):
    return await delivery


async def main():
    client = device()
    ok(await ended(asyncio.create_task(_next(client.messages("~/x")))) == "UsageError", "not yet")
    client.unsubscribe("~/x")
    unsent = await client.publish("~/unsent", "")
    ok(not await unsent and not unsent.acknowledged, "await, without a connection to come: False")
    async with Client(SETTING["operator"], status=False, clean_session=True) as operator:
        async with client:
            ok(client.connected, "async with connects")
            ok(await unsent.wait(PATIENCE_S), "what was published before is delivered")
            await several_iterators(client, operator)
            await acknowledged_by_asking(client, operator)
        ok(client.state == "closed", "and leaves")
        await comes_again(operator)
        async with client:
            await cancellation(client, operator)
        ok(client.stats["dropped_in"] == client.stats["unhandled"] == 0, "nothing is dropped")


asyncio.run(main())
