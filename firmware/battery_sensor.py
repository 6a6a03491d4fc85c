"""Wake, measure, publish, make sure of it, sleep: for a board on a battery. Put it there with
`provision … --main battery_sensor.py`.

The outbox is durable, so a reading that finds no network is kept on the flash and goes out with a
later one, in its order.
"""

import machine

from securemqtt import Client

SLEEP_MS = 15 * 60 * 1000
AWAKE_S = 20  # at most: a network that is away must not empty the battery


def celsius():
    """Measure; replace this by your sensor."""
    try:
        return round(27 - (machine.ADC(4).read_u16() * 3.3 / 65535 - 0.706) / 0.001721, 1)
    except (AttributeError, OSError, ValueError):
        return None


client = Client(outbox="durable", outbox_full="drop_oldest", status=False)
client.publish("~/reading", {"celsius": celsius()}, expires_s=7 * 24 * 3600)
client.start()
if client.flush(AWAKE_S):  # everything is acknowledged
    client.disconnect()
machine.deepsleep(SLEEP_MS)  # what is not acknowledged is on the flash: flush has seen to that
