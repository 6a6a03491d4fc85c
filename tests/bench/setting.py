"""What every benchmark needs: a CA, a Mosquitto with mutual TLS on loopback, bundles, umqtt.simple,
a library compiled for a board.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools"), str(ROOT / "lib")]

from securemqtt_tools.board import bundle  # noqa: E402
from securemqtt_tools.board.library import compile_library, compile_modules  # noqa: E402
from securemqtt_tools.board.umqtt import umqtt_sources  # noqa: E402
from securemqtt_tools.broker import BrokerConfig, BrokerProcess  # noqa: E402
from securemqtt_tools.pki import Authority  # noqa: E402
from support.requirements import find_program  # noqa: E402


@dataclass
class Setting:
    """The parts of one run, in a directory that goes with it."""

    directory: Path
    authority: Authority
    broker: BrokerProcess

    def bundle(self, device_id: str, der: bool, port: int | None = None) -> Path:
        """Make a bundle for a new device."""
        directory = self.directory / f"bundle-{device_id}"
        directory.mkdir(mode=0o700)
        issued = self.authority.issue_device(device_id)
        parts = [
            bundle.anchor_files(self.authority.trust_anchors(), {}, der),
            bundle.identity_files(issued, {}, der),
        ]
        names = {key: value for part in parts for key, value in part.names.items()}
        for part in parts:
            for name, content in part.content.items():
                (directory / name).write_bytes(content)
                (directory / name).chmod(0o600)
        settings = bundle.Settings(device_id, "localhost", port or self.broker.port)
        (directory / "config.json").write_bytes(
            bundle.config_text(settings, names, {}, 1_700_000_000) or b""
        )
        return directory

    def board_library(self) -> Path:
        """Compile the library and umqtt.simple as a board gets them; return the directory for
        MICROPYPATH.
        """
        directory = self.directory / "mpy"
        version = json.loads(
            self.micropython_output(
                "import sys, json\nprint(json.dumps(sys.implementation._mpy & 255))"
            )
        )
        modules = compile_library(ROOT / "lib" / "securemqtt", version)
        modules |= compile_modules(umqtt_sources(ROOT / ".build" / "cache"), version)
        for name, content in modules.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return directory

    def micropython_output(
        self,
        program: str,
        *arguments: str,
        path: Path | None = None,
        heap: str = "",
        check: bool = True,
    ) -> str:
        """Run a program under MicroPython; return what it printed, or "" where it failed and
        `check` is false.
        """
        interpreter = find_program("micropython")
        if interpreter is None:
            raise RuntimeError(
                "MicroPython is not installed: pip install 'securemqtt[sim]', or apt-get install "
                "micropython"
            )
        command = [
            interpreter,
            *(["-X", f"heapsize={heap}"] if heap else []),
            "-c",
            program,
            *arguments,
        ]
        environment = {"MICROPYPATH": str(path or ""), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode and check:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        return "" if done.returncode else done.stdout


@contextmanager
def setting() -> Iterator[Setting]:
    """Make a CA and start Mosquitto, as `tools/ca.py` and `tools/broker.py` do; all of it is gone
    at the end.
    """
    with tempfile.TemporaryDirectory(prefix="securemqtt-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        authority = Authority.create(directory / "ca", name="bench", passphrase=None)
        BrokerConfig.create(
            directory / "broker", authority, names=["localhost", "127.0.0.1"], port=0
        )
        with BrokerProcess(directory / "broker", engine="mosquitto") as broker:
            yield Setting(directory, authority, broker)
