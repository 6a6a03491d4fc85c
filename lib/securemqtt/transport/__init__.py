"""The way to the broker: paho-mqtt over OpenSSL on CPython, umqtt.simple over mbedTLS on boards."""

from ..platform import BACKEND

# At once, not when the first client is made: on a board, what stays is to lie together.
if BACKEND == "umqtt":
    from .umqtt import UmqttLink as make_link
else:
    from .paho import PahoLink as make_link  # type: ignore[assignment]

__all__ = ["make_link"]
