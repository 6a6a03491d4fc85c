"""What a durable outbox does to a flash image with littlefs, without a network: run by MicroPython.

Arguments: image, counters, bytes per program, bundle, options of Client as JSON, how many messages
of 64 bytes, whether the broker is away, and after how many messages the interval is over. With a
broker, each message is acknowledged at once. Prints the bytes that the journal wrote.
"""

import sys

from flash_device import client_on_flash


def main(*arguments: str) -> None:
    client = client_on_flash(*arguments[:5])
    count, away, interval = arguments[5:]
    for number in range(int(count)):
        client.publish("~/measurements/temperature", b"x" * 64)
        if away != "away":
            client._connection.acknowledged(client._connection.outbox.take(0))
        if number % int(interval) == int(interval) - 1:
            client._connection.outbox.sync()
    print(client.stats["journal_bytes"])


main(*sys.argv[1:])
