"""A line of a log: when it was written, and by what kind of broker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

PLAIN = "plain"  # of Mosquitto, and of HiveMQ as we configure it
EMBEDDED = "embedded"
RABBITMQ = "rabbitmq"

_CLOCK = r"\d\d:\d\d:\d\d"
_DAY = r"\d{4}-\d\d-\d\d"
# What journalctl and syslog put in front, with the program that wrote the line.
_SYSTEM = re.compile(
    rf"(?:(?P<bsd>[A-Z][a-z]{{2}} [ \d]\d {_CLOCK})|"
    rf"(?P<iso>{_DAY}T{_CLOCK}(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))) "
    r"[\w.-]{1,255} [\w@.-]{1,64}\[\d+\]: "
)
_STAMPS = (
    (PLAIN, re.compile(rf"(?P<iso>{_DAY}T{_CLOCK}): ")),
    (PLAIN, re.compile(r"(?P<epoch>\d{9,11}): ")),
    (EMBEDDED, re.compile(rf"(?P<iso>{_DAY} {_CLOCK}),\d{{3}} ")),
    (RABBITMQ, re.compile(rf"(?P<iso>{_DAY} {_CLOCK}\.\d{{6}}[+-]\d\d:\d\d) ")),
)
_FRACTION = re.compile(r"\.\d+")


@dataclass(frozen=True)
class Line:
    """It: what stands behind the time, and the time as it was written."""

    kind: str
    time: datetime | None
    stamp: str
    text: str


def parse_line(text: str, now: datetime) -> Line | None:
    """Read one without its end; None where it does not begin as any broker's does. A time without
    a zone is this computer's; one without a year is at most a year before `now`.
    """
    system = _SYSTEM.match(text)
    rest = text[system.end() :] if system else text
    for kind, pattern in _STAMPS:
        found = pattern.match(rest)
        if found is not None:
            time = _local(found["epoch" if "epoch" in pattern.groupindex else "iso"])
            return Line(kind, time, found[0], rest[found.end() :])
    if system is not None:  # Mosquitto leaves the time to syslog
        time = _local(system["iso"]) if system["iso"] else _of_this_year(system["bsd"], now)
        return Line(PLAIN, time, system[0], rest)
    return None


@lru_cache(maxsize=16)  # many lines are of the same second
def _local(text: str) -> datetime | None:
    """Return the time that is written in seconds since 1970, or as ISO 8601 has it."""
    try:
        if text.isdigit():
            return datetime.fromtimestamp(int(text), timezone.utc)
        # As CPython 3.10 reads it.
        iso = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text.replace("Z", "+00:00"))
        return datetime.fromisoformat(_FRACTION.sub("", iso)).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def _of_this_year(text: str, now: datetime) -> datetime | None:
    year = now.astimezone().year
    try:
        time = datetime.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S").astimezone()
        return time.replace(year=year - 1) if time > now + timedelta(days=1) else time
    except (ValueError, OverflowError, OSError):
        return None
