"""Messages per second of gmqtt: `python rate_gmqtt.py BUNDLE COUNT`. It has no window: all of it
goes out at once.
"""

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path

import gmqtt

bundle, count = Path(sys.argv[1]), int(sys.argv[2])
config = json.loads((bundle / "config.json").read_text())
context = ssl.create_default_context(cafile=str(bundle / config["ca"][0]))
context.load_cert_chain(str(bundle / config["certificate"][0]), str(bundle / config["key"]))
topic, payload = f"devices/{config['client_id']}/t", b"x" * 64


async def main():
    acknowledged = gmqtt.storage.PersistentStorage()
    client = gmqtt.Client(config["client_id"], persistent_storage=acknowledged)
    await client.connect(config["host"], config["port"], ssl=context, version=4)
    start = time.perf_counter()
    for _ in range(count):
        client.publish(topic, payload, qos=1)
    await acknowledged.wait_empty()
    print("figure", count / (time.perf_counter() - start))
    await client.disconnect()


asyncio.run(main())
