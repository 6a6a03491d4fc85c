"""A device with a durable outbox that publishes numbers, until it is killed: run by CPython and by
MicroPython.

Arguments: the bundle's directory, options of Client as JSON, the topic, the first number and the
one behind the last. A number is printed once `publish` has returned; `delivered`, when all is
acknowledged.
"""

import json
import sys

from securemqtt import Client, log_to

# So many may wait before the next is published: the kill is to come in the midst of both.
WAITING = 200


def say(word: object) -> None:
    """Print a line in one write, so that no kill cuts it in two."""
    sys.stdout.write(str(word) + "\n")
    if hasattr(sys.stdout, "flush"):
        sys.stdout.flush()


def main(bundle: str, options: str, topic: str, first: str, end: str) -> None:
    log_to(lambda level, text: None)
    client = Client(bundle, outbox="durable", **json.loads(options))
    client.start()
    number = int(first)
    while number < int(end):
        if client.pending < WAITING:
            client.publish(topic, str(number))
            say(number)
            number += 1
        client.poll()
    while not client.flush(1):
        say(number - 1)
    say("delivered")


if __name__ == "__main__":
    main(*sys.argv[1:])
