"""HiveMQ CE for the tests: what Maven Central has of it, put together as an installed one is.

`python -m support.brokers.hivemq` prints its directory, for HIVEMQ_HOME; the first time it is
downloaded, 100 MB, each file held to the SHA-256 in hivemq.lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from securemqtt_tools.broker.hivemq.program import HOME, find_java
from securemqtt_tools.cli import FatalError
from support.debian_packages import CACHE
from support.requirements import unavailable
from support.speed import seconds

LOCK = Path(__file__).with_suffix(".lock")
_MAVEN = "https://repo1.maven.org/maven2"
_SERVER = "hivemq-community-edition-embedded"
_MAIN = "com.hivemq.HiveMQServer"
_DOWNLOAD_S = 120.0
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


def java_agent(directory: Path, source: str) -> Path:
    """Build what `-javaagent` takes, of a class Agent whose premain is run before HiveMQ; it may
    set what HiveMQ has of settings that no file has.
    """
    (directory / "Agent.java").write_text(source)
    jar = str(hivemq_home() / "bin" / "hivemq.jar")
    javac = [str(find_java("javac")), "-cp", jar, "-d", str(directory)]
    subprocess.run([*javac, str(directory / "Agent.java")], check=True, timeout=seconds(60))
    built = directory / "agent.jar"
    with zipfile.ZipFile(built, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Premain-Class: Agent\r\n\r\n")
        archive.write(directory / "Agent.class", "Agent.class")
    return built


@contextmanager
def hivemq_installed() -> Iterator[None]:
    """Have `broker run --engine hivemq` find it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME, str(hivemq_home()))
        yield


if __name__ == "__main__":
    try:
        print(hivemq_home())
    except (OSError, ValueError) as error:
        sys.exit(str(error))
