"""A device whose durable outbox is on a flash image with littlefs, without a network: run by
MicroPython.

Arguments: image, counters (as the simulated board's chip has them), bytes per program, bundle,
options of Client as JSON, a seed, the first number to publish and the one behind the last. Each
line of output tells what has happened: `P n` publish(n) has returned, `S n` all below n is in
storage, `D n` the broker has n, `E name` an error, `done`.
"""

import json
import os
import sys

import vfs


class _Wire:
    """In the place of the simulated board's line to its simulator."""

    @staticmethod
    def stop(reason: str) -> None:
        """Have the power go: at once, without a word to anything."""
        os.system("kill -9 $PPID")  # noqa: S605


sys.modules["wire"] = _Wire  # type: ignore[assignment]

from flash import Flash  # noqa: E402

from securemqtt import Client, log_to  # noqa: E402
from support.interpreters.either import Random  # noqa: E402

BLOCK_BYTES = 4096
WINDOW = 20


def say(word: str, number: object = "") -> None:
    """Print a line in one write."""
    sys.stdout.write(f"{word} {number}\n")


def client_on_flash(
    image: str, counters: str, program_bytes: str, bundle: str, options: str
) -> Client:
    """Mount the image on /flash, formatted if it is blank, and return a client that lives there."""
    log_to(lambda level, text: None)
    flash = Flash(image, counters, BLOCK_BYTES)
    try:
        file_system = vfs.VfsLfs2(flash, progsize=int(program_bytes))
    except OSError:
        vfs.VfsLfs2.mkfs(flash, progsize=int(program_bytes))
        file_system = vfs.VfsLfs2(flash, progsize=int(program_bytes))
    vfs.mount(file_system, "/flash")
    return Client(bundle, outbox="durable", outbox_dir="/flash/outbox", **json.loads(options))


def main(*arguments: str) -> None:
    client = client_on_flash(*arguments[:5])
    seed, first, end = arguments[5:]
    random = Random(int(seed))
    number = int(first)
    flying = []
    online = False
    while number < int(end) or client.pending:
        if number >= int(end):
            online = True
        elif random.chance(2):
            online = not online
        action = random.below(100)
        if action < 30 and number < int(end):
            try:
                client.publish("~/number", f"{number} " + "x" * random.below(200))
            except Exception as error:  # noqa: BLE001  (whatever it is, the test wants to know)
                say("E", type(error).__name__)
            else:
                say("P", number)
                number += 1
        elif action < 60 and online and len(flying) < WINDOW:
            delivery = client._connection.outbox.take(0)
            if delivery is not None:
                say("D", delivery.payload.split()[0].decode())
                flying.append(delivery)
        elif action < 98 and flying:
            client._connection.acknowledged(flying.pop(0))
        elif action >= 98:
            client.flush(0)
            say("S", number)
    stats = dict(client.stats)
    say("done", json.dumps(stats))


if __name__ == "__main__":
    main(*sys.argv[1:])
