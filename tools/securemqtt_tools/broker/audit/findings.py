"""What is odd about who came in: breaches, and what may be one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from securemqtt_tools.broker.audit.event import CONNECTED, Event

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Networks = Mapping[str, Sequence[Network]]
"""From where an id has to come; one that is not named may come from anywhere."""

# A device that gets another address of the same kind so soon is rather two devices.
AT_ONCE = timedelta(minutes=5)
_MOST = 20_000  # ids, and certificates
_MOST_ADDRESSES = 32


@dataclass(frozen=True)
class Certificate:
    """What the inventory knows of one."""

    subject: str | None
    revoked_at: datetime | None
    is_shared: bool = False


@dataclass(frozen=True)
class Finding:
    """A sentence about an event. A breach: the one who came in had no right to, or is not alone."""

    text: str
    is_breach: bool


class Judge:
    """Looks at events in their order."""

    def __init__(self, networks: Networks, certificates: Mapping[str, Certificate]) -> None:
        """`certificates`: by serial number, as `ca list` shows it."""
        self._networks = networks
        self._certificates = certificates
        self._seen: dict[str, dict[str, datetime | None]] = {}  # id, address: when last
        self._holders: dict[str, list[str]] = {}

    def findings(self, event: Event) -> Iterator[Finding]:
        """Say what is odd about an event; nothing about one who did not come in."""
        if event.what != CONNECTED or event.identity is None:
            return
        if event.address is not None:
            yield from self._of_address(event, event.identity, event.address)
        if event.serial is not None:
            yield from self._of_certificate(event, event.identity, event.serial)

    def _of_address(self, event: Event, identity: str, address: str) -> Iterator[Finding]:
        networks = self._networks.get(identity)
        if networks and not any(ipaddress.ip_address(address) in one for one in networks):
            may = ", ".join(map(str, networks))
            yield Finding(f"from outside its networks ({may})", True)
        if identity not in self._seen:
            _make_room(self._seen)
            self._seen[identity] = {}
        addresses = self._seen[identity]
        also = [one for one, when in addresses.items() if _is_at_once(one, when, event)]
        if also:
            yield Finding(f"came from {also[-1]} as well, less than 5 minutes before", True)
        elif addresses and address not in addresses:
            yield Finding("from an address that this log did not have for it", False)
        addresses.pop(address, None)  # so the newest is last
        if len(addresses) >= _MOST_ADDRESSES:
            del addresses[next(iter(addresses))]
        addresses[address] = event.time

    def _of_certificate(self, event: Event, identity: str, serial: str) -> Iterator[Finding]:
        known = self._certificates.get(serial)
        if known is not None:
            revoked_at = known.revoked_at
            if revoked_at and event.time and event.time > revoked_at:
                yield Finding(
                    f"its certificate was revoked on {revoked_at.astimezone():%Y-%m-%d %H:%M}", True
                )
        if event.is_shared or (known is not None and known.is_shared):
            group = known.subject if known is not None else None
            whose = f"the certificate that {group} shares" if group else "a shared certificate"
            yield Finding(f"by {whose}: which device it was, its password alone says", False)
            return
        if known is not None and known.subject not in (None, identity):
            yield Finding(f"the certificate is that of {known.subject}", True)
        if serial not in self._holders:
            _make_room(self._holders)
            self._holders[serial] = []
        holders = self._holders[serial]
        others = [one for one in holders if one != identity]
        if others:
            yield Finding(f"the certificate served {others[-1]} as well", True)
        if identity not in holders and len(holders) < _MOST_ADDRESSES:
            holders.append(identity)


def _is_at_once(address: str, when: datetime | None, event: Event) -> bool:
    if when is None or event.time is None or event.address is None or address == event.address:
        return False
    # Who has IPv4 and IPv6 may come by either.
    same_kind = (":" in address) == (":" in event.address)
    return same_kind and abs(event.time - when) < AT_ONCE


def _make_room(table: dict[str, T]) -> None:
    if len(table) >= _MOST:
        del table[next(iter(table))]
