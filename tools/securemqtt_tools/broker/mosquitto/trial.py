"""Trying out a Mosquitto configuration that may belong to a running system: on other ports, with
other data, nobody is disturbed.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from securemqtt_tools.broker.children import last_words, spawn
from securemqtt_tools.broker.mosquitto.folder import Folder, Service
from securemqtt_tools.broker.mosquitto.program import READY, Program
from securemqtt_tools.broker.ports import PORT_ATTEMPTS, free_port, port_was_taken
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import OWNER_ONLY

_ROOTS = "/run"
_DATA = "data"
_START_S = 20.0
_POLL_S = 0.05


def try_out(
    program: Program,
    texts: Sequence[str],
    folder: Path,
    contents: Mapping[str, bytes],
    service: Service | None = None,
) -> None:
    """Start Mosquitto with a configuration made of `texts`, in which `folder` stands for where
    `contents`, by name, will be; as the user of `service`, if we are root.

    Takes at most 20 s, and as long again when another program takes one of its ports first. Raises
    FatalError with what Mosquitto says.
    """
    # Root's own place for temporary files may be closed to that user.
    place = _ROOTS if service is not None and Path(_ROOTS).is_dir() else None
    with tempfile.TemporaryDirectory(prefix="securemqtt-", dir=place) as name:
        scratch = Path(name)
        (scratch / _DATA).mkdir(mode=0o700)
        with Folder.at(scratch) as opened:
            opened.write(contents, OWNER_ONLY, service.rights if service else None)
            if service is not None:
                opened.take_over(service.rights)
        if service is not None:
            os.chown(scratch / _DATA, service.user, service.group)
        text = "\n".join(texts).replace(str(folder), str(scratch))
        for attempt in range(1, PORT_ATTEMPTS + 1):
            complaint = _complaint(program, text, scratch, service)
            if complaint is None:
                return
            if attempt == PORT_ATTEMPTS or not port_was_taken(complaint):
                raise FatalError(
                    f"Mosquitto does not take this configuration: {last_words(complaint)}"
                )


def _complaint(program: Program, text: str, scratch: Path, service: Service | None) -> bytes | None:
    """Start it on ports that are free now; return what it said if it did not come up."""
    configuration, log = scratch / "trial.conf", scratch / "trial.log"
    configuration.write_text("\n".join(_harmless(text, scratch)), encoding="utf-8")
    if service is not None:
        os.chown(configuration, 0, service.group)
        configuration.chmod(service.rights.file)
    log.unlink(missing_ok=True)
    process = spawn(
        [str(program.path), "-c", str(configuration)], log, user=service.name if service else None
    )
    try:
        deadline = time.monotonic() + _START_S
        while not READY.search(log.read_bytes()):
            if process.poll() is not None or time.monotonic() > deadline:
                return log.read_bytes()
            time.sleep(_POLL_S)
        return None
    finally:
        process.kill()
        process.wait()


def _harmless(text: str, scratch: Path) -> Iterator[str]:
    """Change a configuration so that a trial of it gets in nobody's way: its ports, its data, its
    bridges.
    """
    yield "log_dest stderr"
    yield "log_type all"
    if os.geteuid() == 0:
        yield "user root"  # a trial that is another user's is no longer root's
    for line in text.splitlines():
        words = line.split()
        key = words[0] if words else ""
        if key == "listener":
            yield f"listener {free_port('127.0.0.1')} 127.0.0.1"
        elif key == "port":
            yield f"port {free_port('127.0.0.1')}"
        elif key in ("address", "addresses"):
            yield f"{key} 127.0.0.1:9"
        elif key == "persistence_location":
            yield f"persistence_location {scratch / _DATA}/"
        elif key not in (
            "include_dir",
            "pid_file",
            "log_dest",
            "log_type",
            "user",
            "bind_address",
            "bind_interface",
        ):
            yield line
