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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from securemqtt_tools.broker.rabbitmq import control
from securemqtt_tools.broker.rabbitmq.membership import NODE, TRUST
from securemqtt_tools.broker.rabbitmq.settings import erlang_string
from securemqtt_tools.broker.rules import READ, WRITE, Rule
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from support.brokers.cluster import NODES, RunningCluster, running_cluster
from support.brokers.cluster_load import Load
from support.brokers.haproxy import running_haproxy
from support.brokers.mqtt import Refused
from support.brokers.rabbitmq import again_and_again
from support.identities.bundles import write_bundle
from support.identities.credentials import (
    CLIENT_AUTH,
    SERVER_AUTH,
    Credentials,
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


def reader_and_writer(
    cluster: RunningCluster, directory: Path, name: str
) -> tuple[str, str, list[Credentials]]:
    """Return two new devices, and their certificates; the first may read what the second writes."""
    ids = f"{name}-reader", f"{name}-writer"
    made = [issued_credentials(directory, cluster.authority.issue_device(one)) for one in ids]
    cluster.update()
    cluster.rule(*shared(*ids))
    return *ids, made


def shared(reader: str, writer: str) -> tuple[Rule, Rule]:
    """Return what lets one read and the other write, the reader's first."""
    topic = f"weather/{reader}"
    return Rule(reader, False, READ, topic), Rule(writer, False, WRITE, topic)


def brings_nothing(
    cluster: RunningCluster, reader: str, writer: str, made: list[Credentials]
) -> bool:
    """Return True if what the one publishes at one node does not come to the other at another."""
    with (
        cluster.enter(2, writer, made[1]) as sends,
        cluster.enter(1, reader, made[0]) as receives,
    ):
        sends.publish(f"weather/{reader}", b"1")
        return receives.drain() == []


def test_who_subscribes_again_and_again_loses_it_at_any_node(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    """Also while the first node takes the right away, from a session that is kept."""
    reader, writer, made = reader_and_writer(cluster, tmp_path, "again")
    reads, writes = shared(reader, writer)
    kept = []
    for number in (0, 1, 2):
        cluster.rule(reads, writes)
        peer = cluster.enter(number, reader, made[0])
        peer.subscribe(f"weather/{reader}")
        with again_and_again(peer, f"weather/{reader}"):
            cluster.rule(writes)
        kept += [cluster.subscriptions(reader, node) for node in range(len(NODES))]
        assert brings_nothing(cluster, reader, writer, made)
    assert kept == [0] * 9


def test_rules_that_change_while_the_first_node_is_down(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    """It puts out at its start who has lost something, wherever he is, and nobody else."""
    reader, writer, made = reader_and_writer(cluster, tmp_path, "down")
    _, writes = shared(reader, writer)
    with (
        cluster.enter(2, reader, made[0]) as loses,
        cluster.enter(1, writer, made[1]) as stays,
    ):
        loses.subscribe(f"weather/{reader}")
        cluster.nodes[0].stop()
        cluster.rule(writes, take_up=False)
        stays.publish(f"weather/{reader}", b"0")
        assert loses.receive() == (f"weather/{reader}", b"0")
        cluster.nodes[0].start()
        with pytest.raises(Refused):
            loses.drain()
        assert stays.drain() == []
    assert cluster.subscriptions(reader) == 0
    assert brings_nothing(cluster, reader, writer, made)


def test_the_first_node_is_killed_while_it_takes_a_right_away(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules are the new ones by then; its next start puts out all the same who had lost
    something.
    """
    reader, writer, made = reader_and_writer(cluster, tmp_path, "half")
    _, writes = shared(reader, writer)
    with cluster.enter(2, reader, made[0]) as loses:
        loses.subscribe(f"weather/{reader}")
        with monkeypatch.context() as broken:
            at = "ok = {module}:put_out"
            broken.setattr(control, "_HOLD", control._HOLD.replace(at, f"error(halfway), {at}"))
            with pytest.raises(FatalError, match="halfway"):
                cluster.rule(writes)
        cluster.nodes[0].kill()
        assert cluster.subscriptions(reader, 1) == 1
        cluster.nodes[0].start()
        with pytest.raises(Refused):
            loses.drain()
    assert cluster.subscriptions(reader) == 0
    assert brings_nothing(cluster, reader, writer, made)


def test_nothing_of_before_is_delivered_while_the_nodes_start(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other node opens its port before the first has gone through what is kept."""
    reader, writer, made = reader_and_writer(cluster, tmp_path, "start")
    _, writes = shared(reader, writer)
    with cluster.enter(2, reader, made[0]) as peer:
        peer.subscribe(f"weather/{reader}")
    for number in (2, 1, 0):  # the last one has to be there for the others
        cluster.nodes[number].stop()
    cluster.rule(writes, take_up=False)
    marks = {one: tmp_path / one for one in ("begun", "done")}
    begun, done = (
        f"ok = file:write_file({erlang_string(str(path))}, <<>>)" for path in marks.values()
    )
    with monkeypatch.context() as slow:
        program = control._FIRST.replace("{hold}", f"{begun}, timer:sleep(15000), {{hold}}, {done}")
        slow.setattr(control, "_FIRST", program)
        early = []
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(cluster.start)
            wait_until(marks["begun"].exists, seconds(120))
            while not marks["done"].exists():
                if starting.done():
                    starting.result()
                    break
                heard = [number for number in (1, 2) if listens(cluster, number)]
                early += heard if not marks["done"].exists() else []
            starting.result()
    assert early == []
    assert brings_nothing(cluster, reader, writer, made)


def test_the_first_node_starts_later_than_the_others(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    """A device that was revoked while all were down gets in nowhere meanwhile."""
    late, good = (
        issued_credentials(tmp_path, cluster.authority.issue_device(one))
        for one in ("late", "still-good")
    )
    cluster.update()
    cluster.enter(1, "late", late).drop()
    for number in range(len(NODES)):
        cluster.nodes[number].stop()
    cluster.authority.revoke("late")
    cluster.nodes[0].config.refresh(cluster.authority)
    logs = [cluster.directories[number] / "broker.log" for number in (1, 2)]
    ends = [one.stat().st_size for one in logs]

    def waits() -> bool:
        return all(
            b"waiting for the first, rabbit@127.0.0.1, at most 120 s" in log.read_bytes()[end:]
            for log, end in zip(logs, ends, strict=True)
        )

    early = []
    with ThreadPoolExecutor(3) as pool:
        starting = [pool.submit(cluster.nodes[number].start, seconds(300)) for number in (1, 2)]
        try:
            wait_until(
                lambda: waits() or any(listens(cluster, one) for one in (1, 2)), seconds(120)
            )
        finally:
            starting.append(pool.submit(cluster.nodes[0].start, seconds(300)))
        while not all(one.done() for one in starting):
            early += [number for number in (1, 2) if gets_in(cluster, number, "late", late)]
        for one in starting:
            one.result()
    assert early == []
    for number in range(len(NODES)):
        cluster.enter(number, "still-good", good).drop()  # each node serves, so it is its no
        with pytest.raises(Refused):
            cluster.enter(number, "late", late)


def gets_in(cluster: RunningCluster, number: int, device_id: str, credentials: Credentials) -> bool:
    """Return True if a node takes a device; False also while its port is closed."""
    try:
        cluster.enter(number, device_id, credentials).drop()
    except (Refused, ConnectionError):
        return False
    return True


def listens(cluster: RunningCluster, number: int) -> bool:
    """Return True if a node's port for devices is open."""
    try:
        with socket.create_connection((NODES[number], cluster.port), timeout=seconds(5)):
            return True
    except OSError:
        return False


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
