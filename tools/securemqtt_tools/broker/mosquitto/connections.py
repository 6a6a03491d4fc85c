"""Which TCP connections the ports of this computer have, as its kernel knows them."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from securemqtt_tools.broker.config import BrokerConfig

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS = "0A"
_IS_OVER = "06"  # TIME_WAIT: nothing comes any more

End = tuple[str, int]
"""An address and a port."""
Connections = frozenset[tuple[str, str]]
"""Each by its two ends, as the kernel writes them: address and port in hex."""


def ports_of(config: BrokerConfig) -> frozenset[int]:
    """Return the ports on which a broker listens for devices."""
    return frozenset({config.port, config.websockets_port}) - {None}  # type: ignore[return-value]


def connections(ports: Collection[int]) -> Connections | None:
    """Return the connections to these ports; None where that cannot be known: on another system
    than Linux, or where nobody listens on one of them, since the broker is elsewhere.
    """
    rows = [line.split()[1:4] for line in _lines()]
    if not set(ports) <= {_port(local) for local, _, state in rows if state == _LISTENS}:
        return None
    return frozenset(
        (local, remote)
        for local, remote, state in rows
        if state not in (_LISTENS, _IS_OVER) and _port(local) in ports
    )


def end_of(text: str) -> End | None:
    """Read ADDRESS:PORT; None for what is neither."""
    address, _, port = text.rpartition(":")
    try:
        return _plain(ipaddress.ip_address(address)), int(port)
    except ValueError:
        return None


def remote_end(one: tuple[str, str]) -> End:
    """Return from where a connection comes."""
    packed = bytes.fromhex(one[1].rpartition(":")[0])
    # Words of 32 bits in this computer's order.
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    address = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return _plain(ipaddress.ip_address(address)), _port(one[1])


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Write an address; one of IPv4 alike, whether by a socket of IPv6 or not."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def remote_ports(some: Connections) -> set[int]:
    """Return the ports from which these connections come."""
    return {_port(remote) for _, remote in some}


def _lines() -> Iterable[str]:
    # Twice: the kernel may leave one out where another ends while this is read.
    for path in _TABLES * 2:
        try:
            yield from path.read_text().splitlines()[1:]
        except OSError:  # no Linux, or no IPv6
            continue


def _port(end: str) -> int:
    return int(end.rpartition(":")[2], 16)
