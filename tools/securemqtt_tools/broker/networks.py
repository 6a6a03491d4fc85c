"""The networks that an identity has to come from, beside its certificate."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from securemqtt_tools.cli import FatalError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ZONE = re.compile("%[^/]*")
_MAPPED_BITS = 96  # of an IPv6 address, before the IPv4 address that it stands for


@dataclass(frozen=True)
class Binding:
    """One network that a group, or an id, may come from; where there are several, any will do."""

    who: str
    is_group: bool
    network: Network

    @property
    def whom(self) -> str:
        """Who it is for, in words."""
        return f"group {self.who}" if self.is_group else self.who


def parse_network(text: str) -> Network:
    """Return a network, 192.0.2.0/24 or 2001:db8::/32 say, or a single address. One of IPv6
    addresses that stand for IPv4 (::ffff:192.0.2.0/120) is that of IPv4. Raise FatalError.
    """
    try:
        if "%" in text:
            raise ValueError("a zone is this computer's own business")
        found = ipaddress.ip_network(text)
        if "/" not in text and found.network_address.is_unspecified:
            raise ValueError("nobody has this address")
    except ValueError as error:
        raise FatalError(f"{text!r} is no network ({error}): write {_meant(text)}") from error
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= _MAPPED_BITS:
        plain = found.network_address.ipv4_mapped
        if plain is not None:
            return ipaddress.IPv4Network((plain, found.prefixlen - _MAPPED_BITS))
    return found


def _meant(text: str) -> str:
    try:
        plain = ipaddress.ip_network(_ZONE.sub("", text), strict=False)
        if "/" not in text and plain.network_address.is_unspecified:
            return f"{plain.network_address}/0, which is every address of its kind"
        return str(plain)
    except ValueError:
        return "192.0.2.0/24, or 2001:db8::/32"


def plain_address(text: str) -> str:
    """Return an address as people write it: an IPv6 address that stands for an IPv4 one as that."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return text
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def is_within(networks: Iterable[Network], address: str) -> bool:
    """Return True if an address is of one of the networks; False for what is no address."""
    try:
        found = ipaddress.ip_address(plain_address(address))
    except ValueError:
        return False
    return any(found in one for one in networks)


def listed(networks: Iterable[Network]) -> str:
    """Say networks in words."""
    return " or ".join(map(str, networks))
