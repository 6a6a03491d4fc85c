"""A message that came in, which handlers it goes to, and the bytes of one that goes out."""

import json

from ._compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class Message:
    """What a handler gets: `.topic` (str), `.payload` (bytes), `.qos`, `.retain`, `.dup`, and the payload as `.text()` or `.json()`."""

    __slots__ = ("dup", "epoch", "packet_id", "payload", "qos", "retain", "topic")

    def __init__(self, topic: str, payload: bytes, qos: int, retain: bool, dup: bool, packet_id: int, epoch: int) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.dup = dup
        self.packet_id = packet_id
        self.epoch = epoch

    def text(self) -> str:
        """Give the payload as text; ValueError if it is not UTF-8."""
        return str(self.payload, "utf-8")

    def json(self) -> "Any":
        """Give what the payload says in JSON; ValueError if it is none."""
        return json.loads(self.payload)


def encode(payload: object) -> bytes:
    """Give the bytes of a payload: bytes as they are, str as UTF-8, anything else as JSON. TypeError or ValueError if JSON cannot say it."""
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    _check(payload)
    return json.dumps(payload).encode()


def _check(value: "Any") -> None:
    """Raise TypeError or ValueError for what JSON cannot say: CPython's encoder lets NaN pass, MicroPython's anything at all."""
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


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether `topic` falls under `topic_filter`; wildcards at the start do not match `$…` ([MQTT-4.7.2-1])."""
    if topic_filter == topic:
        return True
    if topic[:1] == "$" and topic_filter[:1] in "+#":
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or (level != "+" and level != levels[index]):
            return False
    return len(wanted) == len(levels)
