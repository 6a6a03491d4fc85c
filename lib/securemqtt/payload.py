"""The bytes of a message that goes out: a board needs this for what is not bytes already."""

import json

from ._compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def encode(payload: object) -> bytes:
    """Return the bytes of a payload: bytes as they are, str as UTF-8, anything else as JSON.

    TypeError or ValueError if JSON cannot say it.
    """
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    _check(payload)
    return json.dumps(payload).encode()


def _check(value: "Any") -> None:
    """Raise TypeError or ValueError for what JSON cannot say: CPython's encoder lets NaN pass,
    MicroPython's anything at all.
    """
    if isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, bool)):
                raise TypeError("a key that is no str: {!r}".format(key))
            _check(item)
    elif isinstance(value, float):
        if value - value != 0:  # so it is NaN or infinite
            raise ValueError("{} is not in JSON".format(value))
    elif value is not None and not isinstance(value, (str, int, bool)):
        raise TypeError("{} is not in JSON".format(type(value)))
