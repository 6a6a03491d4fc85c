"""Setting a cluster up: a directory for each of its nodes, and by what they know each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.nodes import DEFAULT_PORT, Cluster
from securemqtt_tools.broker.rabbitmq.engine import DIRECTORY
from securemqtt_tools.broker.rabbitmq.membership import (
    make_memberships,
    remove_membership,
    write_membership,
)
from securemqtt_tools.pki import Authority


def create_cluster(
    directory_of: Callable[[str], Path],
    authority: Authority,
    nodes: Sequence[str],
    *,
    names: Sequence[str] = (),
    cluster_port: int = DEFAULT_PORT,
    **settings: Any,
) -> list[BrokerConfig]:
    """Set up each of these nodes in its directory: a server certificate for its own name and those
    that all nodes share, and all else as `BrokerConfig.create` has it, which takes `settings`.

    The first node leads: rules and devices are taken up by it. Raise FatalError.
    """
    places = list(Cluster.of(nodes, cluster_port))
    memberships = make_memberships([one.node for one in places], authority.now)
    shared = [one for one in names if one.lower() not in places[0].nodes]
    made = []
    for place in places:
        directory = directory_of(place.node)
        made.append(
            BrokerConfig.create(
                directory, authority, names=[place.node, *shared], cluster=place, **settings
            )
        )
        write_membership(directory / DIRECTORY, memberships[place.node])
        settings |= {"roles": made[0].roles, "keep_roles": False}  # the first node's are all's
    return made


def leave_cluster(directory: Path) -> bool:
    """Take away from a broker's directory by what the nodes of a cluster knew it; return True if it
    was one. Raise FatalError.
    """
    return remove_membership(directory / DIRECTORY)
