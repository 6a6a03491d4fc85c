"""Publish a reading every few seconds and take commands: this very file runs on a board and on a
Raspberry Pi.

`devices/<id>/command/interval` takes a number of seconds, from 0.1 to 3600; every command is
answered on `~/answer/<command>`. Ctrl-C ends it.
"""

import sys

from securemqtt import Client

settings = {"interval_s": 10}


def temperature():
    """Return the chip's temperature in degrees Celsius, or None where there is no sensor."""
    try:
        if sys.platform == "rp2":
            from machine import ADC

            return round(27 - (ADC(4).read_u16() * 3.3 / 65535 - 0.706) / 0.001721, 1)
        if sys.platform == "esp32":
            from esp32 import mcu_temperature

            return mcu_temperature()
        with open("/sys/class/thermal/thermal_zone0/temp") as file:
            return int(file.read()) / 1000
    except (ImportError, OSError, ValueError):
        return None


def seconds(text):
    """Return a number of seconds that makes sense here, None for any other text.

    `float` takes nan, inf and 1e999 as well. What comes from outside is looked at before it is
    used: to wait for nan seconds, say, would be not to wait at all.
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0.1 <= number <= 3600 else None  # no comparison with nan holds


def on_command(message):
    """Take a command; an exception in here is reported, and the program goes on."""
    name = message.topic.split("/")[-1]
    answer = {"received": message.text()[:100]}
    if name == "interval":
        asked_s = seconds(message.text())
        if asked_s is None:
            answer["error"] = "an interval is a number of seconds from 0.1 to 3600"
        else:
            settings["interval_s"] = asked_s
    answer["interval_s"] = settings["interval_s"]
    client.publish("~/answer/" + name, answer)


# For a board out of reach, `watchdog=machine.WDT(timeout=8000)` here restarts it when it is stuck,
# and also 8 s after a Ctrl-C.
client = Client(outbox_full="drop_oldest", watchdog=None)
client.subscribe("~/command/+", on_command)
number = 0
try:
    with client:  # from here on the connection is kept up, whatever the network does
        while True:
            number += 1
            client.publish("~/reading", {"number": number, "celsius": temperature()})
            waited_s = 0
            while waited_s < settings["interval_s"]:  # which a command may change meanwhile
                step_s = min(settings["interval_s"] - waited_s, 1)
                client.wait(step_s)
                waited_s += step_s
except KeyboardInterrupt:
    pass  # by Ctrl-C: it has left in order
