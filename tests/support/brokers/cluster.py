"""Three RabbitMQ nodes of one cluster, each at an address of loopback of its own."""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.broker.cluster import create_cluster
from securemqtt_tools.broker.rabbitmq.engine import RabbitMQ
from securemqtt_tools.broker.revocations import hand_over
from securemqtt_tools.broker.rules import Rule, Rules
from securemqtt_tools.broker.rules_file import read_rules, write_rules
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, client_context
from support.brokers.rabbitmq import require_rabbitmq
from support.identities.credentials import Credentials
from support.network.net import wait_until
from support.requirements import unavailable
from support.speed import seconds

NODES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
# How many nodes run, and how many members each quorum queue has that run.
_STATE = """\
io:format("~w ~w", [length(rabbit_nodes:all_running()), lists:usort(
  [length(proplists:get_value(online, rabbit_quorum_queue:info(Queue, [online])))
    || Queue <- rabbit_amqqueue:list(), amqqueue:get_type(Queue) =:= rabbit_quorum_queue])]).
"""


class RunningCluster:
    """The nodes, as processes of this one."""

    def __init__(self, directory: Path, authority: Authority, roles: Mapping[str, str]) -> None:
        """Set them up."""
        self.authority = authority
        self._program = require_rabbitmq()
        self.port = _free_port()
        self.cluster_port = _free_port()
        made = create_cluster(
            lambda node: directory / node / "broker",
            authority,
            NODES,
            names=["localhost"],
            cluster_port=self.cluster_port,
            port=self.port,
            engine="rabbitmq",
            roles=roles,
        )
        self.directories = [one.directory for one in made]
        self.nodes = [BrokerProcess(one.directory) for one in made]

    @property
    def hosts(self) -> list[str]:
        """What a client is told."""
        return [f"{one}:{self.port}" for one in NODES]

    def start(self) -> None:
        """Start all, at once."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda one: one.start(seconds(300)), self.nodes))

    def stop(self) -> None:
        """End all, whatever state they are in."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda one: one.stop(), self.nodes))

    def evaluate(self, program: str, number: int = 0) -> str:
        """Return what a program in Erlang prints on a node; nothing if it cannot be asked."""
        node = self.nodes[number]
        done = subprocess.run(
            [self._program.control, "--quiet", "eval", program],
            env=RabbitMQ(self._program).environment(node.config),
            cwd=node.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds(60),
            check=False,
        )
        return done.stdout.strip().removesuffix("ok").strip() if done.returncode == 0 else ""

    def wait_until_whole(self) -> None:
        """Wait until all nodes run, and each kept session is on all of them."""
        wait_until(
            lambda: self.evaluate(_STATE) in ("3 [3]", "3 []"), seconds(120), "a whole cluster"
        )

    def subscriptions(self, device_id: str, number: int = 0) -> int:
        """Return how many filters a device's session has, as a node knows it."""
        queue = f'rabbit_misc:r(<<"/">>, queue, <<"mqtt-subscription-{device_id}qos1">>)'
        found = f"[One || One <- rabbit_binding:list_for_destination({queue})"
        ours = f'{found}, element(4, element(2, One)) =:= <<"amq.topic">>]'
        return int(self.evaluate(f'io:format("~w", [length({ours})]).', number))

    def rule(self, *lines: Rule, take_up: bool = True) -> None:
        """Put these rules in the place of those before, on the first node."""
        directory = self.directories[0]
        write_rules(directory, Rules(read_rules(directory).number + 1, {}, lines))
        if take_up:
            self.nodes[0].reload()

    def update(self, *numbers: int) -> None:
        """Have nodes take up what the authority says: the first, unless others are named, which get
        the CRL alone, as a user brings it.
        """
        for number in numbers or (0,):
            node = self.nodes[number]
            if number == 0:
                node.config.refresh(self.authority)
            else:
                hand_over(self.authority, node.directory)
            node.reload()

    def enter(self, number: int, device_id: str, credentials: Credentials) -> Peer:
        """Connect to a node as a device."""
        context = client_context(self.directories[0] / "ca.pem", credentials)
        peer = Peer(self.port, context, host=NODES[number])
        try:
            peer.connect(device_id, clean=False)
        except BaseException:
            peer.drop()
            raise
        return peer


@contextmanager
def running_cluster(
    authority: Authority, directory: Path, roles: Mapping[str, str]
) -> Iterator[RunningCluster]:
    """Run one; it has ended after the block."""
    require_loopback()
    cluster = RunningCluster(directory, authority, roles)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def require_loopback() -> None:
    """Skip where loopback has one address only."""
    try:
        with socket.create_server((NODES[-1], 0)):
            pass
    except OSError:
        unavailable(f"{NODES[-1]} is no address of this computer: run this on Linux")


def _free_port() -> int:
    """Return a port that is free at each of these addresses."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        try:
            for one in NODES:
                with socket.create_server((one, port)):
                    pass
        except OSError:
            continue
        return port
    raise AssertionError("no port is free on three addresses")
