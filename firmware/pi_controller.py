"""Show what every device says, and tell each how often to report: a Raspberry Pi's program, beside
main.py on the boards.

    python pi_controller.py [--every SECONDS]

The broker must know this Pi's client id as an operator, who may read every device and send it
commands. Ctrl-C ends it.
"""

import argparse
import sys

from securemqtt import Client
from securemqtt.errors import SecureMQTTError
from securemqtt.log import printable

parser = argparse.ArgumentParser(
    description="Show what every device says, and tell each how often to report."
)
parser.add_argument(
    "--every",
    default="5",
    metavar="SECONDS",
    help="pause between two readings of a device, 0.1 to 3600 (default: 5)",
)
told = set()


def seconds(text):
    """Return a number of seconds that a device takes, or end with a line that says which those are.

    `float` takes nan, inf and 1e999 as well.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0
    if 0.1 <= number <= 3600:  # no comparison with nan holds
        return number
    sys.exit(
        "pi_controller: --every takes a number of seconds from 0.1 to 3600, not " + repr(text[:40])
    )


def show(message):
    """Print a message in one line: its topic, a space, its payload. A device may say what it likes,
    so what would move the terminal is escaped.
    """
    text = message.payload.decode("utf-8", "backslashreplace")
    print(printable(message.topic), printable(text, 1000), flush=True)


def on_message(message):
    """Show what a device says; one whose reading is heard for the first time is told how often to
    report.
    """
    show(message)
    device, kind = message.topic.split("/")[1:3]
    if kind == "reading" and device not in told:
        told.add(device)
        client.publish("devices/" + device + "/command/interval", str(interval_s))


interval_s = seconds(parser.parse_args().every)
try:
    client = Client()
    client.subscribe("devices/+/answer/#", show)
    client.subscribe("devices/+/+", on_message)
    with client:
        client.run_forever()
except SecureMQTTError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    print("pi_controller: ended")
