"""The asyncio face in CPython's event loop: what it waits for and how long, what it leaves in the
loop, other threads and loops, and the end of a program.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from securemqtt.aio import Client
from securemqtt.errors import UsageError
from securemqtt.messages import Message
from securemqtt.platform import now_ms
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.network.proxy import Proxy
from support.speed import seconds, slowness

_numbers = itertools.count()
PATIENCE_S = seconds(20)
# What comes at once; without a mend it takes a pause, of 1 s.
AT_ONCE_S = 0.5 * slowness()


@pytest.fixture
def proxy(broker: BrokerProcess) -> Iterator[Proxy]:
    with Proxy(broker.port) as proxy:
        yield proxy


@pytest.fixture
def bundle(authority: Authority, proxy: Proxy, tmp_path: Path) -> str:
    name = f"loop-{next(_numbers)}"
    return str(write_bundle(tmp_path / "bundle", authority, name, port=proxy.port))


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 3 * PATIENCE_S))


async def until(condition: Callable[[], Any]) -> None:
    async def hold() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(hold(), PATIENCE_S)


def counted(client: Client) -> list[int]:
    """Return a list to which the time of each turn is added, in ms."""
    connection, turns = client._connection, []
    turn = connection.turn

    def count(wait_ms: int) -> int:
        turns.append(now_ms())
        return turn(wait_ms)

    connection.turn = count  # type: ignore[method-assign]
    return turns


def test_a_back_off_takes_no_turns(bundle: str, proxy: Proxy) -> None:
    """Also not behind an attempt that ran out of time."""

    async def main() -> None:
        client = Client(bundle, connect_timeout_s=1)
        turns = counted(client)
        proxy.up.hold()
        client.start()
        await until(lambda: client.stats["failures"] == 2)
        await client.disconnect()
        assert len(turns) < 100

    run(main)


def test_woken_within_a_turn(bundle: str, broker: BrokerProcess, authority: Authority) -> None:
    """What another thread acknowledges while a turn looks at the network goes out at once."""

    async def main() -> None:
        client = Client(bundle)
        async with client:
            messages = client.messages("~/note")
            link = client._connection.link
            serve, acknowledge = link.serve, link.acknowledge
            sent_ms: list[int] = []
            left: list[Message] = []

            def watch(message: Message) -> None:
                sent_ms.append(now_ms())
                acknowledge(message)

            def interrupted(wait_ms: int) -> None:
                if left:
                    thread = threading.Thread(target=left.pop().acknowledge)
                    thread.start()
                    thread.join()
                serve(wait_ms)

            link.acknowledge = watch  # type: ignore[method-assign]
            took_ms = []
            for number in range(3):
                await client.publish("~/note", str(number))
                message = await asyncio.wait_for(messages.__anext__(), PATIENCE_S)
                await client.flush(PATIENCE_S)
                await until(lambda: client._driver._rest._fd >= 0)  # type: ignore[union-attr]
                left.append(message)
                link.serve = interrupted  # type: ignore[method-assign]
                begun_ms = now_ms()
                client._driver.wake()
                await until(lambda: len(sent_ms) > len(took_ms))
                link.serve = serve  # type: ignore[method-assign]
                took_ms.append(sent_ms[-1] - begun_ms)
            assert min(took_ms) < AT_ONCE_S * 1000

    run(main)


def test_a_file_descriptor_that_is_used_again(bundle: str, proxy: Proxy) -> None:
    """A socket that the program opens where an attempt was cancelled has the number of ours."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        client = Client(bundle)
        ours = socket.socket()
        proxy.up.hold()

        async def attempt() -> int:
            try:
                await client.connect(PATIENCE_S)
            except asyncio.CancelledError:
                again = fcntl.fcntl(ours, fcntl.F_DUPFD, fd)  # the first that is free from fd on
                loop.add_writer(again, lambda: None)
                loop.remove_writer(again)
                os.close(again)
                return again
            return -1

        def awaited() -> int:
            """Return the socket that the client waits for in the loop; -1 if for none."""
            return client._driver._rest._fd  # type: ignore[union-attr]

        attempting = asyncio.create_task(attempt())
        await until(lambda: awaited() >= 0)
        fd = awaited()
        attempting.cancel()
        assert await attempting == fd
        ours.close()

    run(main)


def test_another_loop(bundle: str) -> None:
    """In another event loop each call is refused, and the connection goes on."""

    async def main() -> None:
        client = Client(bundle)

        async def failing(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
            with pytest.raises(UsageError, match="another event loop"):
                await call()

        def elsewhere() -> None:
            for call in (
                client.connect,
                client.disconnect,
                client.__aenter__,
                lambda: client.publish("~/a", b""),
                messages.__anext__,
                listen,
                forget,
            ):
                asyncio.run(failing(call))

        async def listen() -> None:
            client.messages("~/other")

        async def forget() -> None:
            client.unsubscribe("~/note")

        messages = client.messages("~/note")

        async with client:
            await asyncio.to_thread(elsewhere)
            assert client.connected
            assert await (await client.publish("~/note", "")).wait(PATIENCE_S)

    run(main)


def test_started_without_a_loop(bundle: str) -> None:
    client = Client(bundle)
    with pytest.raises(RuntimeError):
        client.start()
    assert client.state == "closed"

    async def main() -> None:
        async with client:
            assert client.connected

    run(main)


def test_an_executor_that_was_shut_down(bundle: str, tmp_path: Path) -> None:
    """What is published as the program ends is stored all the same."""

    async def main() -> None:
        async with Client(bundle, outbox="durable", outbox_dir=str(tmp_path / "outbox")) as client:
            await asyncio.get_running_loop().shutdown_default_executor()
            assert await (await client.publish("~/note", "")).wait(PATIENCE_S)

    run(main)


_ENDS = """
import asyncio, os, socket, sys
from securemqtt.aio import Client

def end(state):
    if state == "waiting":
        raise {error}

async def main():
    client = Client(sys.argv[1])
    async with client:
        client.on_state(end)
        with socket.socket(fileno=os.dup(client._connection.link.waiting.fd)) as ours:
            ours.shutdown(socket.SHUT_RDWR)
        await client.messages("~/never").__anext__()

asyncio.run(main())
"""


@pytest.mark.parametrize(("error", "status"), [("SystemExit(7)", 7), ("KeyboardInterrupt", 130)])
def test_a_handler_ends_the_program(bundle: str, error: str, status: int) -> None:
    """Nobody waits for a connection that nothing turns any more."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", _ENDS.format(error=error), bundle],
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode in (status, -2), done.stderr[-2000:]
    assert time.monotonic() - begun < PATIENCE_S
    for told in ("ResourceWarning", "was destroyed", "never awaited"):
        assert told not in done.stderr


def test_what_was_published_is_delivered_though_all_tasks_are_cancelled(bundle: str) -> None:
    """As asyncio.run does where a signal handler raises SystemExit: the client's own task, too."""
    deliveries = []
    clients = []

    async def main() -> None:
        async with Client(bundle) as client:
            clients.append(client)
            deliveries.append(await client.publish("~/note", "the last"))
            asyncio.get_running_loop().call_soon(sys.exit)
            await asyncio.sleep(3600)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert deliveries[0].acknowledged
    assert clients[0].state == "closed"


def test_all_tasks_are_cancelled_and_nobody_leaves(bundle: str) -> None:
    """Then it goes on for some seconds, and ends."""
    client = Client(bundle)

    async def main() -> None:
        await client.connect(PATIENCE_S)
        asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.sleep(3600)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert client.state == "closed"


def test_an_exception_in_the_block_leaves_time_to_deliver(bundle: str, proxy: Proxy) -> None:
    """As it does without asyncio."""
    deliveries = []

    async def main() -> None:
        with pytest.raises(ValueError, match="a mistake"):
            async with Client(bundle) as client:
                proxy.up.hold()
                deliveries.append(await client.publish("~/note", "the last"))
                asyncio.get_running_loop().call_later(3, proxy.up.release)
                raise ValueError("a mistake")

    run(main)
    assert deliveries[0].acknowledged


def test_a_message_that_a_closed_loop_was_at(bundle: str) -> None:
    """It is given to who asks next."""
    client = Client(bundle)
    taken = []

    async def take() -> None:
        async for message in client.messages("~/note"):
            taken.append(message.text())
            await asyncio.sleep(3600)

    def granted() -> bool:
        inbox = client._connection.inbox
        return inbox is not None and any(one.granted for one in inbox.subscriptions.values())

    async def first() -> None:
        await client.connect(PATIENCE_S)
        tasks.append(asyncio.create_task(take()))
        await until(granted)
        await client.publish("~/note", "1")
        await until(lambda: taken == ["1"])

    async def second() -> None:
        async with client:
            tasks.append(asyncio.create_task(take()))
            await until(lambda: taken == ["1", "1"])

    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(first())
    loop.close()
    asyncio.run(second())
