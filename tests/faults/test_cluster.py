"""Three RabbitMQ nodes under load, of which one is killed, and again once it is back: nothing that
was published with QoS 1 is lost, whichever node it is.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from securemqtt_tools.pki import Authority
from support.brokers.cluster import NODES, RunningCluster, running_cluster
from support.brokers.cluster_load import Load
from support.identities.bundles import write_bundle
from support.speed import seconds

T = TypeVar("T")
ROLES = {"hub": "operator"}


@pytest.mark.brokers
@pytest.mark.xdist_group("cluster")
@pytest.mark.timeout(seconds(600))
def test_a_node_is_killed(authority: Authority, tmp_path: Path) -> None:
    play(authority, tmp_path, devices=20, kills=1, every_s=0.5)


@pytest.mark.long
@pytest.mark.brokers
@pytest.mark.xdist_group("cluster")
@pytest.mark.timeout(seconds(3600))
def test_a_node_is_killed_ten_times(authority: Authority, tmp_path: Path) -> None:
    play(authority, tmp_path, devices=100, kills=10, every_s=1)


def play(
    authority: Authority, directory: Path, *, devices: int, kills: int, every_s: float
) -> None:
    """Have devices and a hub send each other messages while nodes are killed."""
    ids = [f"cluster-{kills}-{number}" for number in range(devices)]
    for one in (*ids, "hub"):  # before the nodes are told which there are
        write_bundle(directory / one, authority, one, port=1)
    with running_cluster(authority, directory, ROLES) as cluster:
        for one in (*ids, "hub"):
            write_bundle(directory / one, authority, one, port=1, host=cluster.hosts)
        load = Load([directory / one for one in ids], directory / "hub", every_s)
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
