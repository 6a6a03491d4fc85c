"""Messages on standard output: a line each, in which nothing that others wrote moves a terminal."""

from __future__ import annotations

import base64
import json
import sys
from datetime import datetime
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

from securemqtt import Message
from securemqtt.platform import escaped
from securemqtt_tools.output import write_bytes


class Printer:
    """Prints messages as `securemqtt sub` was asked to: raw, as JSON, or for people."""

    def __init__(self, form: str | None, topics: bool, timestamps: bool) -> None:
        """`form` is json, raw, or None for people; `topics`: they stand before the payloads."""
        self._form = form
        self._topics = topics
        self._timestamps = timestamps
        self._console = Console(highlight=False, soft_wrap=True)
        # rich takes NO_COLOR at its word, and would go on dimming.
        self._coloured = self._console.color_system is not None and not self._console.no_color

    def show(self, message: Message) -> None:
        """Print a message. Raise OutputError if that cannot be written."""
        if self._form == "raw":
            write_bytes(message.payload)
        elif self._form == "json":
            print(_json_line(message, self._timestamps))
        else:
            self._print(message)
        sys.stdout.flush()

    def _print(self, message: Message) -> None:
        line = Text()
        if self._timestamps:
            line.append(_now() + " ", "dim")
        if self._topics:
            line.append(escaped(message.topic) + " ", "cyan")
        line.append(escaped(message.payload.decode("utf-8", "backslashreplace")))
        if self._coloured:
            self._console.print(line)
        else:
            print(_encodable(line.plain))


def _encodable(text: str) -> str:
    """Return text with what standard output's encoding does not have escaped."""
    encoding = sys.stdout.encoding
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _json_line(message: Message, timestamps: bool) -> str:
    fields: dict[str, Any] = {"time": _now()} if timestamps else {}
    fields.update(topic=message.topic, qos=message.qos, retain=message.retain)
    fields.update(_payload(message))
    line = json.dumps(fields, ensure_ascii=False)
    if escaped(line) == line == _encodable(line):
        return line
    return json.dumps(fields).replace("\x7f", "\\u007f")


def _payload(message: Message) -> dict[str, Any]:
    """Return a payload as JSON has it: what it says in JSON, else its text, else its bytes."""
    try:
        text = message.text()
    except ValueError:
        return {"payload_base64": base64.b64encode(message.payload).decode()}
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, allow_nan=False)  # 1e999 is read as infinity
        return {"payload": value}
    except (ValueError, RecursionError):
        return {"payload": text}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
