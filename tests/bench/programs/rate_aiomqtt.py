"""Messages per second of aiomqtt: `python rate_aiomqtt.py BUNDLE COUNT TASKS`; each task publishes
one message after the other, as aiomqtt waits for each acknowledgement.
"""

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path

import aiomqtt

bundle, count, tasks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
config = json.loads((bundle / "config.json").read_text())
context = ssl.create_default_context(cafile=str(bundle / config["ca"][0]))
context.load_cert_chain(str(bundle / config["certificate"][0]), str(bundle / config["key"]))
topic, payload = f"devices/{config['client_id']}/t", b"x" * 64


async def publish(client, share):
    for _ in range(share):
        await client.publish(topic, payload, qos=1)


async def main():
    async with aiomqtt.Client(
        config["host"], config["port"], identifier=config["client_id"], tls_context=context
    ) as client:
        start = time.perf_counter()
        await asyncio.gather(*(publish(client, count // tasks) for _ in range(tasks)))
        print("figure", count / (time.perf_counter() - start))


asyncio.run(main())
