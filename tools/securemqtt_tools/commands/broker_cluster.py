"""What `securemqtt broker init --cluster` and `run` do for the nodes of a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from securemqtt_tools.broker.cluster import create_cluster, leave_cluster
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.kinds import RABBITMQ
from securemqtt_tools.broker.nodes import Cluster
from securemqtt_tools.broker.rabbitmq.cluster import FIRST_S, WAIT_S
from securemqtt_tools.broker.rabbitmq.engine import RabbitMQ
from securemqtt_tools.cli import FatalError
from securemqtt_tools.home import Home
from securemqtt_tools.pki import Authority


def create(
    args: argparse.Namespace, authority: Authority, settings: dict[str, Any]
) -> BrokerConfig:
    """Set up all nodes, and return the settings of the first, which runs here. Raise FatalError."""
    for option, value in (("--bind", args.bind), ("--certificate", args.certificate)):
        if value is not None:
            raise FatalError(f"{option} is for one computer: leave it out with --cluster")
    home = Home(args.home)
    first = args.cluster[0].lower()
    made = create_cluster(
        lambda node: home.broker if node == first else home.node(node).broker,
        authority,
        args.cluster,
        names=args.names,
        cluster_port=args.cluster_port,
        **settings,
    )
    return made[0]


def say_nodes(args: argparse.Namespace, config: BrokerConfig) -> None:
    """Say where the other nodes have to go."""
    if config.cluster is None:
        return
    for one in config.cluster.others:
        print(
            f"Node {one}: bring {Home(args.home).node(one).path} to that computer, into its "
            f"~/.securemqtt, over what is there (docs/cluster.md): with that deleted, what waits "
            f"for devices is lost. Its keys and the cookie are in it, so let nobody else read it "
            f"on the way."
        )


def say_left(config: BrokerConfig) -> None:
    """Have a broker that is set up as one of its own leave the cluster it was a node of, if it was,
    and say so. Raise FatalError.
    """
    if config.cluster is None and leave_cluster(config.directory):
        print(
            "It was a node of a cluster, and is a broker of its own now: the cluster's keys and "
            "cookie were taken away here. The other nodes know nothing of it: end them, or set all "
            "of them up anew, with --cluster."
        )
        kept = config.directory / RabbitMQ.kept
        if config.engine == RABBITMQ and kept.exists():
            print(
                f"What it has kept is the cluster's, and RabbitMQ does not start with it by "
                f"itself: delete {kept} before, or move it away."
            )


def say_waiting(cluster: Cluster | None) -> None:
    """Say for whom a node may have to wait."""
    if cluster is None:
        return
    others = " and ".join(cluster.others)
    print(
        f"It is the node {cluster.node}. "
        + (
            "It begins the cluster"
            if cluster.leads
            else f"Where it is new it waits for the first, {cluster.nodes[0]}, and for "
            f"{FIRST_S / 60:.0f} minutes also where no node serves yet"
        )
        + f"; coming back, it waits for {others} if they ran longer than it. At most "
        f"{WAIT_S / 60:.0f} minutes.",
        flush=True,
    )
