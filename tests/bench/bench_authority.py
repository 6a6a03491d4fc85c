"""How an authority of ten thousand devices works: issuing, and `ca list`, the real command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from figures import Figure
from paths import ROOT
from setting import Setting

from securemqtt_tools.pki import Authority

_DEVICES = 10_000
_RUN_S = 120


def measure(setting: Setting, rounds: int = 1) -> Iterator[Figure]:
    """Yield the figures: certificates per second, keys and all; seconds until the first line of
    the list is there, and the last.
    """
    rates, first_s, all_s = [], [], []
    for n in range(rounds):
        home = setting.directory / f"authority-{n}"
        home.mkdir()
        authority = Authority.create(home / "ca", name="bench", passphrase=None)
        begun = time.monotonic()
        for number in range(_DEVICES):
            authority.issue_device(f"device-{number}")
        rates.append(_DEVICES / (time.monotonic() - begun))
        command = [sys.executable, str(ROOT / "tools" / "ca.py"), "list", "--home", str(home)]
        begun = time.monotonic()
        with subprocess.Popen(
            command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE
        ) as running:
            if running.stdout is None:
                raise RuntimeError("ca list has no output")
            running.stdout.readline()
            first_s.append(time.monotonic() - begun)
            lines = len(running.stdout.readlines())
            all_s.append(time.monotonic() - begun)
            if running.wait(_RUN_S) or lines < _DEVICES:
                raise RuntimeError(f"ca list failed: {lines} lines")
    yield Figure(f"certificates a second, {_DEVICES} devices", {64: rates})
    yield Figure(f"ca list of {_DEVICES}, first line, s", {64: first_s})
    yield Figure(f"ca list of {_DEVICES}, last line, s", {64: all_s})
