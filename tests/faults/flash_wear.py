"""What a durable outbox does to a flash image with littlefs, without a network: run by MicroPython.

Arguments: image, counters, bytes per program, bundle, options of Client as JSON, how many messages
of 64 bytes, whether the broker is away, and after how many messages the interval is over. With a
broker, each message is acknowledged at once. Prints the bytes that the journal wrote.
"""

import json
import sys

from flash_device import mount

from securemqtt import Client, log_to


def main(
    image: str,
    counters: str,
    program_bytes: str,
    bundle: str,
    options: str,
    count: str,
    away: str,
    interval: str,
) -> None:
    log_to(lambda level, text: None)
    mount(image, counters, int(program_bytes))
    client = Client(bundle, outbox="durable", outbox_dir="/flash/outbox", **json.loads(options))
    for number in range(int(count)):
        client.publish("~/measurements/temperature", b"x" * 64)
        if away != "away":
            client._connection.acknowledged(client._connection.outbox.take(0))
        if number % int(interval) == int(interval) - 1:
            client._connection.outbox.sync()
    print(client.stats["journal_bytes"])


main(*sys.argv[1:])
