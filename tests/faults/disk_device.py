"""A device whose durable outbox is on a disk, without a network: `python disk_device.py BUNDLE
OPTIONS COUNT`; OPTIONS of Client as JSON.

It publishes COUNT numbers behind what it finds, has all of it delivered as to a broker, and prints
what came of it as JSON.
"""

from __future__ import annotations

import json
import sys

from securemqtt import Client
from securemqtt.errors import SecureMQTTError


def main(bundle: str, options: str, count: str) -> None:
    client = Client(bundle, outbox="durable", **json.loads(options))
    outbox = client._connection.outbox
    error = client.last_error
    refused, delivered, stored = [], [], 0
    for number in range(int(count)):
        try:
            stored += client.publish("~/number", f"{number} " + "x" * 100).stored > 0
        except SecureMQTTError as problem:
            refused.append(type(problem).__name__)
    error = client.last_error or error
    while (delivery := outbox.take(0)) is not None:
        delivered.append(int(delivery.payload.split()[0]))
        client._connection.acknowledged(delivery)
    found = {
        "delivered": delivered,
        "stored": stored,
        "refused": refused,
        "error": type(error).__name__,
        "text": str(error),
    }
    print(json.dumps(found | {"stats": client.stats}))


try:
    main(*sys.argv[1:])
except SecureMQTTError as problem:
    sys.exit(f"{type(problem).__name__}: {problem}")
