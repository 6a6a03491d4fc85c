"""haproxy before the nodes of a cluster, with the settings that docs/cluster.md has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.network.net import free_port, wait_until
from support.requirements import require_program
from support.speed import seconds

_PAGE = Path(__file__).parents[3] / "docs" / "cluster.md"


@contextmanager
def running_haproxy(directory: Path, hosts: Sequence[str]) -> Iterator[str]:
    """Run it before these brokers, HOST:PORT each, and yield where it listens; it has ended after
    the block.
    """
    program = require_program("haproxy")
    settings, log = directory / "haproxy.cfg", directory / "haproxy.log"
    port = free_port()
    found = re.search(r"```haproxy\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace("bind :8883", f"bind 127.0.0.1:{port}")
    text = text.replace("maxconn 20000", "maxconn 1000")  # who is not root may open fewer files
    for name, host in zip(("a.local", "b.local", "c.local"), hosts, strict=True):
        assert f" {name}:8883 " in text
        text = text.replace(f"{name}:8883", host)
    settings.write_text(text)
    with (
        log.open("wb") as said,
        subprocess.Popen(
            [program, "-db", "-f", settings],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_until(lambda: _listens(port) or process.poll() is not None, seconds(20))
            assert process.poll() is None, log.read_text()
            yield f"localhost:{port}"
        finally:
            process.kill()


def _listens(port: int) -> bool:
    """Look without a connection, which would be one to a node."""
    state = f"{0x0100007F:08X}:{port:04X} 00000000:0000 0A"
    return state in Path("/proc/net/tcp").read_text()
