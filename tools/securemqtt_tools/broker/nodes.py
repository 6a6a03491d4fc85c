"""Several computers that are one broker: which nodes there are, and which of them this is."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.names import server_name

# Where nodes speak to each other, and nobody else does; RabbitMQ's own choice.
DEFAULT_PORT = 25672
# Of two nodes none can tell whether the other has ended or the line between them; of four no more
# may fail than of three.
_NUMBERS = (3, 5, 7)


@dataclass(frozen=True)
class Cluster:
    """A node's place in its cluster."""

    nodes: tuple[str, ...]  # by the names or addresses at which they find each other
    node: str  # this one
    port: int = DEFAULT_PORT  # where each listens for the others

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Cluster:
        """Take it from the settings. Raise TypeError or KeyError."""
        return cls(**{**values, "nodes": tuple(values["nodes"])})

    @classmethod
    def of(cls, names: Sequence[str], port: int = DEFAULT_PORT) -> Iterator[Cluster]:
        """Yield the place of each of these nodes. Raise FatalError."""
        nodes = tuple(one.lower() for one in names)
        for one in nodes:
            cluster = cls(nodes, one, port)
            cluster.check()
            yield cluster

    @property
    def leads(self) -> bool:
        """Whether this is the first node: it begins the cluster, and rules, devices and limits are
        taken up by it alone, for all.
        """
        return self.nodes[0] == self.node

    @property
    def others(self) -> tuple[str, ...]:
        """The other nodes."""
        return tuple(one for one in self.nodes if one != self.node)

    @property
    def address(self) -> str:
        """The address that this node goes by; empty where it has a name."""
        return self.node if is_address(self.node) else ""

    @property
    def is_on_loopback(self) -> bool:
        """Whether it is all on this computer, to try it out."""
        return bool(self.address) and ipaddress.ip_address(self.address).is_loopback

    def check(self) -> None:
        """Raise FatalError for what cannot be meant."""
        if len(self.nodes) not in _NUMBERS or len(set(self.nodes)) != len(self.nodes):
            raise FatalError(
                f"a cluster has 3, 5 or 7 different nodes, and these are {len(set(self.nodes))}: "
                f"name them all"
            )
        if self.node not in self.nodes:
            raise FatalError(f"{self.node!r} is none of the nodes: run securemqtt broker init")
        for one in self.nodes:
            if isinstance(server_name(one), x509.IPAddress):
                if ":" in one:
                    raise FatalError(f"{one!r} is an IPv6 address: name the node")
            elif "." not in one:
                raise FatalError(
                    f"{one!r} has no domain, without which RabbitMQ's nodes find nobody: name it "
                    f"as {one}.local, or by its address"
                )
        if not 1 <= self.port <= 65535:
            raise FatalError(f"nodes cannot speak on port {self.port}: use one from 1 to 65535")


def is_address(name: str) -> bool:
    """Return True for an IP address, False for a host's name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
