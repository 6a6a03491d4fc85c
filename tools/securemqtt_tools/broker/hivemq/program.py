"""HiveMQ CE as it is installed: where, which version, with which Java."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.cli import FatalError

HOME = "HIVEMQ_HOME"
_JAR = "bin/hivemq.jar"


@dataclass(frozen=True)
class Program:
    """An installed HiveMQ."""

    jar: Path
    java: Path
    version_text: str


def find_hivemq() -> Program | None:
    """Return the HiveMQ that $HIVEMQ_HOME has, None where that is not set. Raise FatalError when
    there is none, and without a Java.
    """
    home = os.environ.get(HOME)
    if home is None:
        return None
    jar = (Path(home) / _JAR).absolute()
    if not home or not jar.is_file():
        raise FatalError(
            f"{HOME} names no HiveMQ: it has no {_JAR}. Unpack HiveMQ CE, and set it to that "
            f"directory"
        )
    return Program(jar, find_java("java"), _version(jar))


def find_java(name: str) -> Path:
    """Return `java` or `javac`: of $JAVA_HOME, else on the PATH. Raise FatalError."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=str(Path(home) / "bin")) if home else shutil.which(name)
    if found is None:
        where = "in JAVA_HOME" if home else "on this computer"
        raise FatalError(
            f"HiveMQ needs {name}, and there is none {where}: apt-get install default-jdk-headless"
        )
    return Path(found).absolute()


def _version(jar: Path) -> str:
    """Return what its manifest says, which wraps long lines."""
    try:
        with zipfile.ZipFile(jar) as archive:
            text = archive.read("META-INF/MANIFEST.MF").decode(errors="replace")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FatalError(f"{jar} is no HiveMQ ({error}): unpack HiveMQ CE again") from error
    for line in text.replace("\r", "").replace("\n ", "").split("\n"):
        key, _, value = line.partition(": ")
        if key == "HiveMQ-Version":
            return value.strip()
    return "of an unknown version"
