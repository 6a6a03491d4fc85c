"""Payloads to bytes, and JSON back from them: a board that only sends bytes does without."""

import json

from .platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any


def encode(payload: object) -> bytes:
    """Return the bytes of a payload: bytes as they are, str as UTF-8, anything else as JSON.

    Raise InvalidPayload if JSON cannot say it.
    """
    if isinstance(payload, bytes):
        return payload
    try:
        if isinstance(payload, str):
            return payload.encode()
        if isinstance(payload, (bytearray, memoryview)):
            return bytes(payload)
        _check_json(payload)
        return json.dumps(payload).encode()
    except (TypeError, ValueError, RuntimeError) as error:  # the last: nested too deep
        from .errors import InvalidPayload

        raise InvalidPayload("the payload is neither bytes nor str nor JSON", str(error))


def decode(payload: bytes) -> "Any":
    """Return what bytes say in JSON. Raise ValueError if that is none, or cut off."""
    value = json.loads(payload)
    # Before a second element: what is cut off takes that into itself, and the list has but one.
    if _cut_off_passes() and len(json.loads(b"[" + payload + b",0]")) != 2:
        raise ValueError("JSON that is cut off")
    return value


def _cut_off_passes() -> bool:
    """Return True if json takes `{"a": 1` for whole, as MicroPython 1.25's does."""
    try:
        json.loads("{")
    except ValueError:
        return False
    return True


def _check_json(value: "Any") -> None:
    """Raise TypeError or ValueError for what JSON cannot say.

    CPython's encoder lets NaN pass, MicroPython's anything at all.
    """
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_json(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, bool)):
                raise TypeError("a key that is no str: {!r}".format(key))
            _check_json(item)
    elif isinstance(value, float):
        if value - value != 0:  # so it is NaN or infinite
            raise ValueError("{} is not in JSON".format(value))
    elif value is not None and not isinstance(value, (str, int, bool)):
        raise TypeError("{} is not in JSON".format(type(value)))
