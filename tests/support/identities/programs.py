"""A user's shortest program, run with a bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.speed import seconds

_PROGRAM = """\
from securemqtt import Client

with Client() as client:
    print(client.publish("~/hello", "x").wait({patience_s}))
"""


def says(bundle: Path) -> str:
    """Return what a program prints that publishes x on ~/hello with this bundle."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(patience_s=seconds(10))],
        env={**os.environ, "SECUREMQTT_BUNDLE": str(bundle)},
        capture_output=True,
        text=True,
        timeout=seconds(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
