"""A line of a log: when it was written, and by what kind of broker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

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
            return Line(kind, _time(found, now), found[0], rest[found.end() :])
    if system is not None:  # Mosquitto leaves the time to syslog
        return Line(PLAIN, _time(system, now), system[0], rest)
    return None


def _time(found: re.Match[str], now: datetime) -> datetime | None:
    parts = found.groupdict()
    try:
        if parts.get("epoch"):
            return datetime.fromtimestamp(int(parts["epoch"]), timezone.utc)
        if parts.get("bsd"):
            year = now.astimezone().year
            time = datetime.strptime(f"{year} {parts['bsd']}", "%Y %b %d %H:%M:%S").astimezone()
            late = time > now + timedelta(days=1)
            return time.replace(year=year - 1) if late else time
        iso = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", parts["iso"].replace("Z", "+00:00"))
        time = datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", iso))
        return time.astimezone()
    except (ValueError, OverflowError, OSError):
        return None
