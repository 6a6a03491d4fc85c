"""Does what a preset must refuse, says what came of it, then sends one message in order: the same
program on both interpreters. Its setting is in setting.json.
"""

import json

from securemqtt import Client
from securemqtt.errors import SecureMQTTError

with open("setting.json") as file:  # noqa: PTH123  (MicroPython has no pathlib)
    setting = json.load(file)
options = setting["options"]


def told(function: object, *arguments: object) -> None:
    """Say what a call ends in."""
    try:
        function(*arguments)
    except SecureMQTTError as error:
        print(type(error).__name__ + ": " + error.what)
    else:
        print("taken")


for changes in setting["options_to_refuse"]:
    told(lambda changed: Client(**changed), dict(options, **changes))
with Client(**options) as client:
    for topic, size, qos, retain in setting["messages_to_refuse"]:
        told(client.publish, topic, bytes(size), qos, retain)
    for topic_filter, qos in setting["filters_to_refuse"]:
        told(client.subscribe, topic_filter, print, qos)
    client.subscribe("~/command/+", print)
    client.publish("~/reading", b"21.5")
    print("acknowledged", client.flush(setting["patience_s"]), client.stats["failures"])
