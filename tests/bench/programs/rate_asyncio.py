"""Messages per second of securemqtt's asyncio face: `python rate_asyncio.py BUNDLE COUNT WINDOW`;
on a board too.
"""

import asyncio
import sys
import time

from securemqtt.aio import Client

bundle, count, window = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


async def main():
    options = {"outbox_messages": 2 * count, "outbox_bytes": 1 << 28}
    async with Client(bundle, clean_session=True, window=window, **options) as client:
        payload = b"x" * 64
        start = time.perf_counter()
        for _ in range(count):
            await client.publish("~/t", payload)
        if not await client.flush(120):
            raise OSError("not everything was acknowledged")
        print("figure", count / (time.perf_counter() - start))


asyncio.run(main())
