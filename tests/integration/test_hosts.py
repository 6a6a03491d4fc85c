"""Several brokers of which any will do: a client goes from the one that is gone to the next, on
both interpreters and both faces.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.broker.ports import free_port
from securemqtt_tools.pki import Authority
from support.brokers.mqtt import Peer, client_context
from support.identities.bundles import write_bundle
from support.identities.credentials import issued_credentials
from support.interpreters.micropython import micropython_command, micropython_environment
from support.requirements import require_program

PROGRAM = """\
import sys
from securemqtt import Client
client = Client(sys.argv[1], connect_timeout_s=60)
print("begins", flush=True) if sys.implementation.name == "cpython" else print("begins")
with client:
    number = 0
    while True:
        client.publish("~/n", str(number))
        number += 1
        client.wait(0.1)
"""
ASYNCIO = """\
import asyncio, sys
from securemqtt.aio import Client
async def main():
    async with Client(sys.argv[1], connect_timeout_s=60) as client:
        number = 0
        while True:
            await client.publish("~/n", str(number))
            number += 1
            await asyncio.sleep(0.1)
asyncio.run(main())
"""
NOBODY = """\
import sys
from securemqtt import Client, log_to
log_to(lambda level, text: print(text))
with Client(sys.argv[1], connect_timeout_s=600):
    pass
"""


@pytest.fixture
def brokers(authority: Authority, tmp_path: Path) -> Iterator[list[BrokerProcess]]:
    """Run two that know the same devices."""
    require_program("mosquitto")
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                BrokerProcess(
                    BrokerConfig.create(
                        tmp_path / f"broker-{number}",
                        authority,
                        names=["localhost", "127.0.0.1"],
                        port=0,
                        roles={"eye": "monitor"},
                    ).directory,
                    engine="mosquitto",
                )
            )
            for number in range(2)
        ]


@pytest.mark.parametrize("program", [PROGRAM, ASYNCIO], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("board", [False, True], ids=["cpython", "micropython"])
def test_it_goes_to_the_next_and_back(
    brokers: list[BrokerProcess], authority: Authority, tmp_path: Path, program: str, board: bool
) -> None:
    nobody = free_port("127.0.0.1")
    hosts = [f"localhost:{port}" for port in (nobody, *(one.port for one in brokers))]
    bundle = write_bundle(tmp_path / "bundle", authority, "pump", port=1, host=hosts, board=board)
    eye = issued_credentials(tmp_path, authority.issue_device("eye", renew=True))
    command = micropython_command() if board else [sys.executable]
    with subprocess.Popen(
        [*command, "-c", program, str(bundle)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=micropython_environment() if board else None,
    ) as process:
        try:
            for stays, goes in (brokers, brokers[::-1], brokers):
                stays.start()
                goes.kill()
                with Peer(stays.port, client_context(stays.directory / "ca.pem", eye)) as peer:
                    peer.connect("eye")
                    peer.subscribe("devices/pump/n")
                    assert peer.receive()[0] == "devices/pump/n"
        finally:
            process.kill()


@pytest.mark.parametrize("board", [False, True], ids=["cpython", "micropython"])
def test_a_round_counts_as_one_failure(authority: Authority, tmp_path: Path, board: bool) -> None:
    """Else a client of five would wait for up to a minute after it has tried each of them once."""
    hosts = [f"localhost:{free_port('127.0.0.1')}" for _ in range(5)]
    bundle = write_bundle(tmp_path / "bundle", authority, "pump", port=1, host=hosts, board=board)
    command = micropython_command() if board else [sys.executable, "-u"]
    delays: list[float] = []
    with subprocess.Popen(
        [*command, "-c", NOBODY, str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=micropython_environment() if board else None,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                delays += map(float, re.findall(r"Next attempt in ([\d.]+) s", line))
                if len(delays) == 15:
                    break
        finally:
            process.kill()
    assert [number for number, delay in enumerate(delays, 1) if delay and number % 5] == []
    waited = delays[4::5]
    assert len(waited) == 3
    assert all(delay <= bound for delay, bound in zip(waited, (1, 2, 4), strict=True)), waited
