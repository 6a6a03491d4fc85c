"""The rules as RabbitMQ's topic permissions: regular expressions on routing keys.

Its MQTT plugin makes a routing key of a topic, and a pattern of a filter: / becomes a dot and +
becomes *, while a dot and a * stay what they are. So `a.b` and `a/b` are one topic, and a filter
`a/*` is the same as `a/+`. The permission is asked about the pattern when a client subscribes, and
never about what is delivered: a filter that could bring what is denied is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from securemqtt_tools.broker.rules import Access, covered

_DOT = r"\."
# What follows a level, to the end of the key.
_BELOW = r"(?:\..*)?"
# A dot is for every character, and begin and end are those of the key and not of a line in it. What
# begins with $ is the broker's own.
_BEGIN = r"(?s)\A(?!\$)"
_END = r"\z"


def read_pattern(access: Access) -> str:
    """Return what a subscription of an identity has to match."""
    return _pattern(access.read, access.denied)


def write_pattern(access: Access) -> str:
    """Return what a topic has to match that an identity publishes to."""
    return _pattern(access.write, access.denied)


def is_ambiguous(topic_filter: str) -> bool:
    """Return True if RabbitMQ would take a filter for more than it stands for: nothing can be
    allowed by it. It may be denied, and with it all that RabbitMQ takes it for.
    """
    levels = topic_filter.split("/")
    return "*" in levels or "." in topic_filter


def is_as_much(now: Access, before: Access) -> bool:
    """Return True if nothing was taken away. A denial that is ambiguous takes away what no other
    covers as MQTT has it: a/b.c is no topic of a/+, and is one for RabbitMQ, which a/+ is not for.
    """
    kept = _all_covered(before.read, now.read) and _all_covered(before.write, now.write)
    return kept and all(
        one in before.denied or (not is_ambiguous(one) and covered(before.denied, one))
        for one in now.denied
    )


def is_its_own(topic_filter: str) -> bool:
    """Return True for what a broker says of itself, which RabbitMQ does not do."""
    return topic_filter.startswith("$")


def _pattern(allowed: Iterable[str], denied: Iterable[str]) -> str:
    given = [one for one in allowed if not is_ambiguous(one) and not is_its_own(one)]
    excepted = "".join(f"(?!{_overlapping(_levels(one), '')})" for one in denied)
    return f"{_BEGIN}{excepted}(?:{'|'.join(map(_covered, given))}){_END}"


def _all_covered(some: Iterable[str], by: Sequence[str]) -> bool:
    return all(covered(by, one) for one in some)


def _levels(topic_filter: str) -> list[str]:
    return re.split("[/.]", topic_filter)


def _covered(topic_filter: str) -> str:
    """Match the topics and patterns that a filter covers."""
    levels = topic_filter.split("/")
    if levels == ["#"]:
        return ".*"
    below = _BELOW if levels[-1] == "#" else ""
    # A pattern may have # anywhere, which + does not cover.
    words = ["[^.#]*" if one == "+" else re.escape(one) for one in levels[: -1 if below else None]]
    return _DOT.join(words) + below


def _overlapping(levels: Sequence[str], separator: str) -> str:
    """Match the topics and patterns that have something in common with a filter, and some more: a
    pattern with # that begins alike.
    """
    if not levels:
        return rf"(?:\.#{_BELOW})?{_END}"
    if levels[0] == "#":
        return f"(?:{separator}.*)?{_END}"
    word = "[^.]*" if levels[0] in ("+", "*") else rf"(?:\*|{re.escape(levels[0])})"
    rest = _overlapping(levels[1:], _DOT)
    return f"(?:{separator}#{_BELOW}{_END}|{separator}{word}{rest})"
