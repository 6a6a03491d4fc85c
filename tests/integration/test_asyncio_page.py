"""docs/asyncio.md is true: its programs run as they stand, against a real broker; the first one on
each interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.play import INTERPRETERS, prepared
from securemqtt import Client, Message
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.network.net import free_port, wait_until
from support.speed import seconds

PAGE = Path(__file__).resolve().parents[2] / "docs" / "asyncio.md"
_BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
TASKS, FASTAPI, AIOHTTP = _BLOCKS
SERVERS = {
    "fastapi": (FASTAPI, "import uvicorn; uvicorn.run(page.app, port={port})"),
    "aiohttp": (AIOHTTP, "page.web.run_app(page.app, host='127.0.0.1', port={port})"),
}
WAIT_S = seconds(30)


class Watcher:
    """An operator: hears every device, and sends commands."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[tuple[str, str]] = []
        client.subscribe("devices/+/#", self._note)

    def _note(self, message: Message) -> None:
        self.heard.append((message.topic, message.text()))

    def wait_for(self, topic: str, text: str, count: int = 1) -> None:
        """Wait until something was heard so often."""

        def heard() -> bool:
            self.client.poll()
            return self.heard.count((topic, text)) >= count

        wait_until(heard, WAIT_S, f"{count} × {text} on {topic}, not only {self.heard[-9:]}")


@pytest.fixture
def watcher(broker: BrokerProcess, authority: Authority, tmp_path: Path) -> Iterator[Watcher]:
    bundle = write_bundle(tmp_path / "operator", authority, "controller", port=broker.port)
    with Client(str(bundle), status=False, clean_session=True) as client:
        watcher = Watcher(client)
        subscriptions = client._connection.make_inbox().subscriptions
        wait_until(lambda: all(one.granted for one in subscriptions.values()), WAIT_S, "SUBACK")
        yield watcher


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program; it is ended with the block."""
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_two_tasks_share_a_client(
    interpreter: str,
    watcher: Watcher,
    broker: BrokerProcess,
    authority: Authority,
    tmp_path: Path,
) -> None:
    name = f"tasks-{interpreter}"
    bundle = write_bundle(
        tmp_path / "b", authority, name, port=broker.port, board=interpreter != "cpython"
    )
    program = tmp_path / "page.py"
    program.write_text(TASKS)
    compiled = tmp_path / "compiled"
    compiled.mkdir()
    command, environment = prepared(interpreter, program, compiled)
    environment = {**(environment or os.environ), "SECUREMQTT_BUNDLE": str(bundle)}
    with running(command, environment):
        watcher.wait_for(f"devices/{name}/temperature", '{"celsius": 21.5}')
        for sent in (b"{", b"[]", b"nan", b"-1", b"1e999", 0.05):
            assert watcher.client.publish(f"devices/{name}/command/interval", sent).wait(WAIT_S)
        # One more pause of 5 s, and then they come 100 times as fast.
        watcher.wait_for(f"devices/{name}/temperature", '{"celsius": 21.5}', 30)


@pytest.mark.parametrize("framework", SERVERS)
def test_a_web_server_has_a_client(
    framework: str, watcher: Watcher, broker: BrokerProcess, authority: Authority, tmp_path: Path
) -> None:
    name = f"web-{framework}"
    bundle = write_bundle(tmp_path / "b", authority, name, port=broker.port)
    program, start = SERVERS[framework]
    (tmp_path / "page.py").write_text(program)
    port = free_port()
    command = [sys.executable, "-c", "import page; " + start.format(port=port)]
    environment = {
        **os.environ,
        "SECUREMQTT_BUNDLE": str(bundle),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    with running(command, environment) as process:
        watcher.wait_for(f"devices/{name}/status", "online")
        answers = []

        def answered() -> bool:
            assert process.poll() is None
            request = urllib.request.Request(f"http://127.0.0.1:{port}/note/hello", method="POST")
            try:
                with urllib.request.urlopen(request, timeout=WAIT_S) as response:  # noqa: S310
                    answers.append(json.load(response))
            except OSError:  # it does not listen yet
                return False
            return True

        wait_until(answered, WAIT_S, "an answer")
        assert answers == [{"acknowledged": True}]
        watcher.wait_for(f"devices/{name}/note", "hello")
        process.send_signal(signal.SIGINT)
        process.wait(WAIT_S)
    watcher.wait_for(f"devices/{name}/status", "offline")
