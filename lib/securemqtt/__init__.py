"""MQTT over mutual TLS for Python devices: the same program on CPython and on MicroPython.

from securemqtt import Client

client = Client()
client.subscribe("~/command/+", on_command)
with client:
    while True:
        client.publish("~/temperature", {"celsius": 21.5})
        client.wait(30)
"""

# First what the others import: nested less deeply, imports take less of a board's stack.
from . import platform, transport  # noqa: F401

# isort: split
from .client import Client
from .log import log_to
from .messages import Delivery, Message

__version__ = "0.1.0"
__all__ = ["Client", "Delivery", "Message", "log_to"]

if platform.HAS_TYPING:
    from .options import ClientOptions

    __all__ += ["ClientOptions"]
