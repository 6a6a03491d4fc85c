"""For how long securemqtt's asyncio face holds up another task, in ms: while it connects, and while
it sends and receives 200 messages: `micropython blocked_asyncio.py BUNDLE`.
"""

import asyncio
import sys
import time

from securemqtt import log_to
from securemqtt.aio import Client

MESSAGES = 200
AT_A_TIME = 50  # half of what the outbox holds


class Bystander:
    """A task that wants to run all the time, and notes the longest time for which it could not."""

    def __init__(self):
        self.longest_us = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self):
        last_us = time.ticks_us()
        while True:
            await asyncio.sleep_ms(0)
            now_us = time.ticks_us()
            self.longest_us = max(self.longest_us, time.ticks_diff(now_us, last_us))
            last_us = now_us

    def stop(self):
        self._task.cancel()
        return self.longest_us / 1000


def quiet(level, text):
    """Print nothing."""


async def main():
    client = Client(sys.argv[1])
    messages = client.messages("~/command")
    bystander = Bystander()
    await client.connect()
    connecting_ms = bystander.stop()
    bystander = Bystander()
    for _ in range(MESSAGES // AT_A_TIME):
        for _ in range(AT_A_TIME):
            await client.publish("~/command", b"x" * 64)
        for _ in range(AT_A_TIME):
            await messages.__anext__()
    if not await client.flush(10):
        raise OSError("not everything was acknowledged")
    print("figure", connecting_ms, bystander.stop())
    await client.disconnect()


log_to(quiet)
asyncio.run(main())
