"""What every benchmark needs: a CA, a Mosquitto with mutual TLS on loopback, bundles, the library
that is measured, and the interpreters that run it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from interpreters import MicroPython, figures_in, micropythons
from library import Library
from paths import ROOT

from securemqtt_tools.broker import BrokerConfig, BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle

_PROGRAMS = Path(__file__).with_name("programs")
_RUN_S = 360
# Who may write to all devices.
OPERATOR = "operator"


@dataclass
class Setting:
    """The parts of one run, in a directory that goes with it."""

    directory: Path
    authority: Authority
    broker: BrokerProcess
    library: Library
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def bundle(self, device_id: str, der: bool, port: int | None = None) -> Path:
        """Make a bundle for a new device."""
        return write_bundle(
            self.directory / f"bundle-{device_id}",
            self.authority,
            device_id,
            port=port or self.broker.port,
            board=der,
        )

    def new_board(self) -> Path:
        """Make a bundle for a board that the broker has no session of."""
        return self.bundle(f"board-{next(self._numbers)}", der=True)

    @cached_property
    def micropythons(self) -> list[MicroPython]:
        """The MicroPython interpreters that there are, 64 bits first, with the library compiled."""
        return micropythons(self.library)

    def new_pi(self) -> Path:
        """Make a bundle for a computer that the broker has no session of."""
        return self.bundle(f"pi-{next(self._numbers)}", der=False)

    def cpython(self, program: str, *arguments: object) -> float:
        """Run a program of programs/ under this interpreter; return its figure."""
        return self.figures(program, *arguments)[0]

    def figures(self, program: str, *arguments: object) -> list[float]:
        """Run a program of programs/ under this interpreter; return its figures."""
        command = [sys.executable, str(_PROGRAMS / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(self.library.cpython_path)},
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return figures_in(done.stdout)


@contextmanager
def setting(library: Path = ROOT) -> Iterator[Setting]:
    """Make a CA and start Mosquitto, as `tools/ca.py` and `tools/broker.py` do; all of it is gone
    at the end. `library`: what is measured, see Library.
    """
    with tempfile.TemporaryDirectory(prefix="securemqtt-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        authority = Authority.create(directory / "ca", name="bench", passphrase=None)
        BrokerConfig.create(
            directory / "broker",
            authority,
            names=["localhost", "127.0.0.1"],
            port=0,
            roles={OPERATOR: "operator"},
        )
        with BrokerProcess(directory / "broker", engine="mosquitto") as broker:
            yield Setting(directory, authority, broker, Library(library, directory / "library"))
