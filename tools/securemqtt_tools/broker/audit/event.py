"""One thing that a log tells: somebody came in, left, was refused or put out."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from securemqtt.platform import escaped
from securemqtt.protocol.topics import valid_id
from securemqtt_tools.pki.names import serial_text

CONNECTED = "connected"
DISCONNECTED = "disconnected"
REFUSED = "refused"
EVICTED = "evicted"

_LONGEST_REASON = 200
_LONGEST_NAME = 64
_MOST_DIGITS = 40  # of a serial number: 20 bytes (RFC 5280 §4.1.2.2)


@dataclass(frozen=True)
class Event:
    """It; what the log does not tell is None. All of it is safe to show, and short."""

    time: datetime | None
    what: str
    identity: str | None
    address: str | None
    serial: str | None
    reason: str
    is_shared: bool = False
    """Whether the log calls the certificate one that several devices share."""


def event(
    time: datetime | None,
    what: str,
    identity: str | None = None,
    address: str | None = None,
    reason: str = "",
    serial: str | None = None,
    is_shared: bool = False,
) -> Event:
    """Make one of what a log has. What claims to be an id and is none goes into the reason."""
    if identity is not None and not valid_id(identity):
        claimed = escaped(identity[:_LONGEST_NAME])
        reason, identity = f"{reason} (of who said to be {claimed!r})", None
    return Event(
        time,
        what,
        identity,
        plain_address(address),
        _serial(serial),
        shortened(reason.strip()),
        is_shared,
    )


def shortened(text: str) -> str:
    """Return a text that is safe to show, the end of it cut off where it is long."""
    shown = escaped(text[:_LONGEST_REASON])
    return (
        shown
        if shown == text
        else shown[:_LONGEST_REASON]
        + "…" * (len(text) > _LONGEST_REASON or len(shown) > _LONGEST_REASON)
    )


@lru_cache(maxsize=1024)
def plain_address(text: str | None) -> str | None:
    """Return an address as people write it, an IPv6 one that stands for an IPv4 one as that; None
    for what is none.
    """
    try:
        found = ipaddress.ip_address((text or "").strip("[]"))
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)


def without_port(text: str) -> str:
    """Return an address of which a log has the port behind a colon, too."""
    return text.rpartition(":")[0]


def _serial(text: str | None) -> str | None:
    """Return a serial number in hex as `ca list` shows it."""
    try:
        return serial_text(int(text, 16)) if text and len(text) <= _MOST_DIGITS else None
    except ValueError:
        return None
