"""What a board answers, held to the shape of what was asked: it may answer anything. It runs
whatever is on it, and a thread of its own program may print between two lines of ours.

A shape takes what the JSON of an answer says and returns what it means; it raises ValueError,
TypeError or KeyError for what makes no sense.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

Meaning = TypeVar("Meaning")
Shape = Callable[[Any], Meaning]

_DIGEST_CHARACTERS = 64


class SenselessError(ValueError):
    """An answer is not of the shape that was asked for."""


def parsed(line: str, shape: Shape[Meaning]) -> Meaning:
    """Return what a line of JSON says. Raise SenselessError."""
    try:
        return shape(json.loads(line))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SenselessError(type(error).__name__) from error


def flag(value: Any) -> bool:
    """Take true or false."""
    return _of(bool, value)


def text(value: Any) -> str:
    """Take a text."""
    return _of(str, value)


def text_or_none(value: Any) -> str | None:
    """Take a text or null."""
    return None if value is None else text(value)


def record(value: Any) -> dict[str, Any]:
    """Take an object, whatever is in it."""
    return _of(dict, value)


def anything(value: Any) -> Any:
    """Take what there is."""
    return value


def number(value: Any, lowest: int, highest: int) -> int:
    """Take a whole number in a range."""
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError("no such number")
    return value


def content(value: Any) -> bytes:
    """Take the content of a file in hex."""
    return bytes.fromhex(text(value))


def digest(value: Any) -> str | None:
    """Take a SHA-256 in hex; null for a file that is not there."""
    if value is not None and len(content(value)) * 2 != _DIGEST_CHARACTERS:
        raise ValueError("no SHA-256")
    return text_or_none(value)


def path_and_digest(value: Any) -> tuple[str, str | None]:
    """Take a list of two, a file's path and its SHA-256."""
    path, hashed = _of(list, value)
    return text(path), digest(hashed)


def _of(kind: type[Meaning], value: Any) -> Meaning:
    if not isinstance(value, kind):
        raise TypeError(f"not of {kind.__name__}")
    return value
