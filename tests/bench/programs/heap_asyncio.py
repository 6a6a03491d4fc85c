"""Heap that securemqtt's asyncio face takes once it is connected, a message is sent and one has
come in, TLS included, asyncio itself aside: `micropython heap_asyncio.py BUNDLE`.
"""

# The firmware's own modules, and umqtt.simple, before the measurement: they are not securemqtt's.
import asyncio
import errno  # noqa: F401
import gc
import json  # noqa: F401
import os  # noqa: F401
import random  # noqa: F401
import select  # noqa: F401
import socket  # noqa: F401
import sys
import time  # noqa: F401

import tls  # noqa: F401
import umqtt.simple  # noqa: F401


def used():
    """Return the bytes of the heap that are in use."""
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


def quiet(level, text):
    """Print nothing."""


async def asyncio_itself():
    """Have asyncio load what it loads for tasks and events."""
    event = asyncio.Event()
    task = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    event.set()
    await task


async def main():
    client = Client(sys.argv[1])
    messages = client.messages("~/command")
    await client.connect()
    await client.publish("~/command", b"x" * 64)
    async for _ in messages:
        break
    if not await client.flush(10):
        raise OSError("not everything was acknowledged")
    print("figure", used() - before)
    await client.disconnect()


asyncio.run(asyncio_itself())
before = used()

from securemqtt import log_to  # noqa: E402
from securemqtt.aio import Client  # noqa: E402

log_to(quiet)
asyncio.run(main())
