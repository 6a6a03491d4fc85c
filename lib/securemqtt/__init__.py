"""MQTT over mutual TLS for Python devices: the same program on CPython and on MicroPython.

from securemqtt import Client

client = Client()
client.subscribe("~/command/+", on_command)
with client:
    while True:
        client.publish("~/temperature", {"celsius": 21.5})
        client.wait(30)
"""

from ._compat import log_to
from .client import Client
from .messages import Message
from .outbox import Delivery

__version__ = "0.1.0"
__all__ = ["Client", "Delivery", "Message", "log_to"]
