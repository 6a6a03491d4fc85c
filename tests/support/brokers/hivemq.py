"""HiveMQ CE for the tests: what Maven Central has of it, put together as an installed one is, and
run on free ports of loopback.

`python -m support.brokers.hivemq` prints its directory, for HIVEMQ_HOME; the first time it is
downloaded, 100 MB, each file held to the SHA-256 in hivemq.lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from securemqtt_tools.broker import BrokerConfig
from securemqtt_tools.broker.children import last_words, spawn
from securemqtt_tools.broker.hivemq.program import HOME, Program, find_hivemq, find_java
from securemqtt_tools.broker.hivemq.server import HiveMQ
from securemqtt_tools.broker.ports import PORT_ATTEMPTS, free_port, port_was_taken
from securemqtt_tools.cli import FatalError
from support.debian_packages import CACHE
from support.requirements import unavailable
from support.speed import seconds

LOCK = Path(__file__).with_suffix(".lock")
_MAVEN = "https://repo1.maven.org/maven2"
_SERVER = "hivemq-community-edition-embedded"
_MAIN = "com.hivemq.HiveMQServer"
_DOWNLOAD_S = 120.0
_START_S = seconds(60)
_STOP_S = seconds(30)
_POLL_S = 0.05
_LINE_BYTES = 70  # of a manifest, which goes on in the next after a blank


def locked() -> list[tuple[str, str, str, str]]:
    """Return group, name, version and SHA-256 of each file."""
    lines = LOCK.read_text().splitlines()
    found = [line.split() for line in lines if line and not line.startswith("#")]
    return [(*name.split(":"), digest) for name, digest in found]  # type: ignore[misc]


def version() -> str:
    """Return the version of HiveMQ that the lock has."""
    (found,) = [number for _, name, number, _ in locked() if name == _SERVER]
    return found


def hivemq_home(cache: Path = CACHE) -> Path:
    """Return a directory as HiveMQ's own archive has it, as far as we need that: bin/hivemq.jar.

    Raise OSError or ValueError where it cannot be downloaded, or is not what the lock has.
    """
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    home = cache / f"hivemq-{version()}-{digest}"
    jar = home / "bin" / "hivemq.jar"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "hivemq.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jar.exists():
            names = [_download(home / "lib", *one) for one in locked()]
            jar.parent.mkdir(exist_ok=True)
            whole = jar.with_suffix(".part")
            with zipfile.ZipFile(whole, "w") as archive:
                archive.writestr("META-INF/MANIFEST.MF", _manifest(names))
            whole.rename(jar)
    return home


def _download(directory: Path, group: str, name: str, number: str, digest: str) -> str:
    """Return the name of a file that is there, and is the one that the lock has."""
    file = f"{name}-{number}.jar"
    place = directory / file
    directory.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        address = f"{_MAVEN}/{group.replace('.', '/')}/{name}/{number}/{file}"
        with urllib.request.urlopen(address, timeout=_DOWNLOAD_S) as answer:  # noqa: S310  (https)
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{address} is not the file that {LOCK.name} has")
        part = place.with_suffix(".part")
        part.write_bytes(content)
        part.rename(place)
    return file


def _manifest(names: Sequence[str]) -> str:
    path = "Class-Path: " + " ".join(f"../lib/{name}" for name in names)
    wrapped = [path[at : at + _LINE_BYTES] for at in range(0, len(path), _LINE_BYTES)]
    lines = ["Manifest-Version: 1.0", f"Main-Class: {_MAIN}", f"HiveMQ-Version: {version()}"]
    return "\r\n".join([*lines, "\r\n ".join(wrapped)]) + "\r\n\r\n"


def require_hivemq() -> None:
    """Fail in CI, skip elsewhere, where HiveMQ cannot be had, or no Java for it."""
    for name in ("java", "javac"):
        try:
            find_java(name)
        except FatalError as error:
            unavailable(str(error))
    try:
        hivemq_home()
    except (OSError, ValueError) as error:
        unavailable(f"HiveMQ CE cannot be downloaded from {_MAVEN}: {error}")


def hivemq_program() -> Program:
    """Return the HiveMQ that the tests run, found as a user's is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME, str(hivemq_home()))
        program = find_hivemq()
    assert program is not None
    return program


class RunningHiveMQ:
    """A HiveMQ, with what the tests ask of a BrokerProcess."""

    engine = "hivemq"

    def __init__(self, broker: HiveMQ, log: Path, pid: int) -> None:
        self.broker = broker
        self.log = log
        self.pid = pid

    @property
    def config(self) -> BrokerConfig:
        """Its settings."""
        return self.broker.config

    @property
    def directory(self) -> Path:
        """The broker's directory."""
        return self.broker.config.directory

    @property
    def port(self) -> int:
        """The port of MQTT."""
        return self.broker.config.port

    @property
    def websockets_port(self) -> int | None:
        """The port of WebSockets."""
        return self.broker.config.websockets_port

    def reload(self) -> bool:
        """Have it take up what has changed; never by a restart."""
        self.broker.take_up()
        return False

    def keep_out(self) -> bool:
        """Nothing has to be done: its extension looks after that once a second."""
        return False

    def end_tls_sessions(self) -> bool:
        """Nothing has to be done: its extension looks at the certificate at each CONNECT."""
        return True

    def restart(self) -> None:
        """Fail: no change takes that."""
        raise AssertionError("HiveMQ was to be restarted")


@contextmanager
def running_hivemq(config: BrokerConfig, program: Program) -> Iterator[RunningHiveMQ]:
    """Run it on free ports, and end it in all cases."""
    for _ in range(PORT_ATTEMPTS):
        ports = {"port": free_port(config.bind)}
        if config.websockets_port is not None:
            ports["websockets_port"] = free_port(config.bind)
        broker = HiveMQ(config.changed(**ports), program, config.directory / "broker.log")
        with started(broker, config.directory / "broker.log") as running:
            if running is not None:
                yield running
                return
    raise AssertionError("every port was taken")


@contextmanager
def started(broker: HiveMQ, log: Path) -> Iterator[RunningHiveMQ | None]:
    """Start it and wait until it is ready; None where a port was taken."""
    broker.write()
    begin = log.stat().st_size if log.exists() else 0
    process = spawn(broker.command(), log, broker.environment(), directory=broker.config.directory)
    try:
        deadline = time.monotonic() + _START_S
        while broker.ready.search(said := log.read_bytes()[begin:]) is None:
            if port_was_taken(said):
                yield None
                return
            assert process.poll() is None and time.monotonic() < deadline, last_words(said)
            time.sleep(_POLL_S)
        yield RunningHiveMQ(broker, log, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        finally:
            process.kill()


if __name__ == "__main__":
    try:
        print(hivemq_home())
    except (OSError, ValueError) as error:
        sys.exit(str(error))
