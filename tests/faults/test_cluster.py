"""Three RabbitMQ nodes that are one broker. Under load, one is killed, and the next once all hold
all sessions again: nothing that was published with QoS 1 is lost, by clients that know all nodes,
and by those that know haproxy alone. Nobody but a node gets in between them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import statistics
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from securemqtt_tools.broker.rabbitmq.membership import NODE, TRUST
from securemqtt_tools.pki import Authority
from support.brokers.cluster import NODES, RunningCluster, running_cluster
from support.brokers.cluster_load import Load
from support.brokers.haproxy import running_haproxy
from support.brokers.mqtt import Refused
from support.identities.bundles import write_bundle
from support.identities.credentials import (
    CLIENT_AUTH,
    SERVER_AUTH,
    client_certificate,
    issued_credentials,
    signer_of,
)
from support.network.net import wait_until
from support.speed import seconds

T = TypeVar("T")
ROLES = {"hub": "operator"}
_ALERT = b"\x15"
pytestmark = [
    pytest.mark.brokers,
    pytest.mark.xdist_group("cluster"),
    pytest.mark.timeout(seconds(600)),
]


@pytest.fixture(scope="module")
def cluster(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningCluster]:
    """Run one for the tests of this module."""
    with running_cluster(authority, tmp_path_factory.mktemp("cluster"), ROLES) as running:
        yield running


@pytest.mark.parametrize("proxy", [False, True], ids=["hosts", "haproxy"])
def test_a_node_is_killed(cluster: RunningCluster, tmp_path: Path, proxy: bool) -> None:
    play(cluster, tmp_path, devices=20, kills=1, every_s=0.5, proxy=proxy)


@pytest.mark.long
@pytest.mark.timeout(seconds(3600))
@pytest.mark.parametrize("proxy", [False, True], ids=["hosts", "haproxy"])
def test_a_node_is_killed_ten_times(cluster: RunningCluster, tmp_path: Path, proxy: bool) -> None:
    play(cluster, tmp_path, devices=100, kills=10, every_s=1, proxy=proxy)


def play(
    cluster: RunningCluster,
    directory: Path,
    *,
    devices: int,
    kills: int,
    every_s: float,
    proxy: bool,
) -> None:
    """Have devices and a hub send each other messages while nodes are killed."""
    with ExitStack() as stack:
        hosts = cluster.hosts
        if proxy:
            hosts = [stack.enter_context(running_haproxy(directory, hosts))]
        ids = [f"{'proxy' if proxy else 'host'}-{devices}-{number}" for number in range(devices)]
        bundles = [
            write_bundle(directory / one, cluster.authority, one, port=1, host=hosts)
            for one in (*ids, "hub")
        ]
        cluster.update()
        load = Load(bundles[:-1], bundles[-1], every_s)
        asyncio.run(kill_under(cluster, load, kills))
    ways = load.readings, load.commands
    print(
        f"{sum(len(one.sent) for one in ways)} messages, lost {load.missing}, "
        f"twice {sum(one.twice for one in ways)}"
    )
    assert load.missing == 0


async def kill_under(cluster: RunningCluster, load: Load, kills: int) -> None:
    """Kill a node each time that all nodes hold all sessions again."""
    running = asyncio.create_task(load.run())
    load.mark()
    await until(load.recovered_s, running, seconds(60))
    for number in range(kills):
        node = cluster.nodes[number % len(NODES)]
        await asyncio.to_thread(cluster.wait_until_whole)
        load.mark()
        began = time.monotonic()
        await asyncio.to_thread(node.kill)
        times = await until(load.recovered_s, running, seconds(60))
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(cluster.wait_until_whole)
        print(
            f"kill {number + 1} of {NODES[number % len(NODES)]}: all ways open after "
            f"{statistics.median(times):.1f} s (median), {times[-1]:.1f} s (last); whole after "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
    load.stop()
    await asyncio.wait_for(running, seconds(120))


async def until(condition: Callable[[], T], running: asyncio.Task[None], timeout_s: float) -> T:
    """Wait until something is true, and return it; raise what ends the load before."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if running.done():
            running.result()
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s"
        await asyncio.sleep(0.02)
    return value


def test_what_the_first_node_takes_up_holds_on_all(cluster: RunningCluster, tmp_path: Path) -> None:
    """A new device gets in everywhere; revoked, it is put out of the node where it is, and refused
    everywhere.
    """
    authority = cluster.authority
    issued = {one: authority.issue_device(one) for one in ("thief", "bystander")}
    mine = {one: issued_credentials(tmp_path, made) for one, made in issued.items()}
    for number in range(len(NODES)):
        with pytest.raises(Refused):
            cluster.enter(number, "thief", mine["thief"])
    cluster.update()
    with (
        cluster.enter(2, "bystander", mine["bystander"]) as bystander,
        cluster.enter(1, "thief", mine["thief"]) as thief,
    ):
        authority.revoke("thief")
        cluster.update()
        with pytest.raises(Refused):
            thief.drain()
        for number in range(len(NODES)):
            with pytest.raises(Refused):
                cluster.enter(number, "thief", mine["thief"])
        assert bystander.drain() == []


def test_a_revoked_certificate_of_a_device_that_has_another(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    """It is refused by each node that has the CRL, and the live session ends."""
    authority = cluster.authority
    old = issued_credentials(tmp_path, authority.issue_device("renewed"))
    cluster.update()
    with cluster.enter(1, "renewed", old) as peer:
        authority.revoke("renewed")
        new = issued_credentials(tmp_path, authority.issue_device("renewed"))
        cluster.update(0, 1, 2)
        with pytest.raises(Refused):
            peer.drain()
    for number in range(len(NODES)):
        with pytest.raises(Refused):
            cluster.enter(number, "renewed", old)
        with cluster.enter(number, "renewed", new):
            pass


def test_a_node_that_was_away_changes_nothing(cluster: RunningCluster, tmp_path: Path) -> None:
    """What lies there is older than what the first has taken up since."""
    cluster.nodes[2].stop()
    credentials = issued_credentials(tmp_path, cluster.authority.issue_device("newcomer"))
    cluster.update()
    cluster.nodes[2].start()
    cluster.nodes[2].reload()
    for number in range(len(NODES)):
        with cluster.enter(number, "newcomer", credentials):
            pass


def test_all_nodes_end_and_start_again(cluster: RunningCluster, tmp_path: Path) -> None:
    """What waits for a device is there afterwards."""
    device = "sleeper"
    mine = issued_credentials(tmp_path, cluster.authority.issue_device(device))
    hub = issued_credentials(tmp_path, cluster.authority.issue_device("hub", renew=True))
    cluster.update()
    topic = f"devices/{device}/command/x"
    with cluster.enter(2, device, mine) as peer:
        peer.subscribe(topic)
    with cluster.enter(1, "hub", hub) as peer:
        peer.publish(topic, b"1")
    cluster.stop()
    cluster.start()
    with cluster.enter(0, device, mine) as peer:
        assert peer.receive() == (topic, b"1")


def test_retained_messages_stay_on_their_node(cluster: RunningCluster, tmp_path: Path) -> None:
    """What docs/cluster.md says is not replicated."""
    credentials = issued_credentials(tmp_path, cluster.authority.issue_device("keeper"))
    cluster.update()
    topic = "devices/keeper/state"
    with cluster.enter(0, "keeper", credentials) as peer:
        peer.publish(topic, b"on", retain=True)
        peer.subscribe(topic)
        assert (topic, b"on") in peer.drain()
    with cluster.enter(1, "keeper", credentials) as peer:
        peer.drain()
        peer.subscribe(topic)
        assert peer.drain() == []


def test_nobody_but_a_node_is_heard_between_them(cluster: RunningCluster, tmp_path: Path) -> None:
    """Not who has a certificate of the authority, whatever it is for, nor who has none, nor who
    speaks no TLS.
    """
    nodes = cluster.directories[1] / "rabbitmq" / "cluster"
    assert greeting(cluster, node_context(nodes, (nodes / NODE,))) == b"salive"
    authority = cluster.authority
    both = client_certificate(
        tmp_path, signer_of(authority), [NODES[1]], usages=[CLIENT_AUTH, SERVER_AUTH]
    )
    device = issued_credentials(tmp_path, authority.issue_device("climber"))
    server = cluster.directories[1] / "server.pem"
    for files in ((device.certificate, device.key), (server,), (both.certificate, both.key), ()):
        assert greeting(cluster, node_context(nodes, files)) == b"", files
    assert greeting(cluster, None) in (b"", _ALERT)


def node_context(nodes: Path, files: Sequence[Path]) -> ssl.SSLContext:
    """Trust the nodes, whatever their names, and show what is in these files."""
    context = ssl.create_default_context(cafile=str(nodes / TRUST))
    context.check_hostname = False  # an address is there as a name, for Erlang
    if files:
        context.load_cert_chain(*files)
    return context


def greeting(cluster: RunningCluster, context: ssl.SSLContext | None) -> bytes:
    """Return what the first node answers who says that he is the second, which it has as `alive`;
    without TLS the first byte alone; nothing where it hangs up.
    """
    name = b"rabbit@" + NODES[1].encode()
    hello = b"N" + struct.pack("!QIH", 0xFFFFFFF, 1, len(name)) + name
    try:
        with socket.create_connection(
            (NODES[0], cluster.cluster_port), timeout=seconds(20)
        ) as plain:
            if context is None:
                plain.sendall(struct.pack("!I", len(hello)) + hello)
                return plain.recv(1)
            with context.wrap_socket(plain, server_hostname=NODES[0]) as stream:
                stream.sendall(struct.pack("!I", len(hello)) + hello)
                return stream.recv(4 + 20)[4:]
    except (ssl.SSLError, ConnectionError):
        return b""


def test_another_node_is_found_by_tls_alone(cluster: RunningCluster) -> None:
    """Each node listens for devices and for nodes, and nowhere else."""
    own = {cluster.port, cluster.cluster_port}
    for node in cluster.nodes:
        assert node.pid is not None
        wait_until(lambda node=node: listening(node.pid) == own, what="its two ports")


def listening(pid: int) -> set[int]:
    """Return the ports at which a process listens."""
    inodes = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(one.readlink()))
        except FileNotFoundError:
            continue
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return {
        int(one[1].rpartition(":")[2], 16)
        for one in lines
        if one[3] == "0A" and f"socket:[{one[9]}]" in inodes
    }
