"""The command `broker run`, as a program of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.speed import seconds

_SCRIPT = Path(__file__).parents[3] / "tools" / "broker.py"


@contextmanager
def broker_run(home: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run it, and wait until the broker listens; it has ended after the block."""
    process = subprocess.Popen(
        [sys.executable, _SCRIPT, "run", "--home", home, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "is running: port" in line, process.communicate(timeout=seconds(20))
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=seconds(60))
