"""HiveMQ CE as it is installed: where, which version, with which Java, and its extension built."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker.children import last_words
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, write_files

HOME = "HIVEMQ_HOME"
EXTENSION = "securemqtt"
_JAR = "bin/hivemq.jar"
_SOURCES = Path(__file__).parent / "extension"
_MAIN = "securemqtt.Extension"
_SERVICE = "META-INF/services/com.hivemq.extension.sdk.api.ExtensionMain"
_RELEASE = "11"  # of Java, the oldest that HiveMQ CE 2025.5 runs on
_BUILD_S = 120.0
_DESCRIPTION = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<hivemq-extension>
    <id>{EXTENSION}</id>
    <version>%s</version>
    <name>securemqtt: identity, rules and revocation</name>
    <author>securemqtt</author>
    <priority>1000</priority>
    <start-priority>1000</start-priority>
</hivemq-extension>
"""


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


def install_extension(program: Program, directory: Path) -> None:
    """Build the extension against this HiveMQ, if that was not done yet, and write it into the
    directory of its extensions. Raise FatalError. Takes a few seconds.
    """
    sources = sorted(_SOURCES.glob("*.java"))
    digest = hashlib.sha256()
    with explained(f"read {_SOURCES}"):
        for source in sources:
            digest.update(source.read_bytes())
    digest.update(f"{program.jar} {program.version_text}".encode())
    mark = digest.hexdigest()[:16]
    place = directory / EXTENSION
    description = (_DESCRIPTION % mark).encode()
    written = place / "hivemq-extension.xml"
    with explained(f"read {place}"):
        is_there = (place / "securemqtt.jar").exists() and written.exists()
        if is_there and written.read_bytes() == description:
            return
    # What says which one it is comes last.
    jar = build_extension(program, sources)
    write_files(place, {"securemqtt.jar": jar, "hivemq-extension.xml": description})


def build_extension(program: Program, sources: list[Path]) -> bytes:
    """Return the extension as a jar. Raise FatalError with what javac says."""
    javac = find_java("javac")
    with tempfile.TemporaryDirectory(prefix="securemqtt-") as name:
        command = [str(javac), "--release", _RELEASE, "-cp", str(program.jar), "-d", name]
        try:
            done = subprocess.run(
                [*command, *map(str, sources)],
                capture_output=True,
                timeout=_BUILD_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FatalError(f"cannot run {javac}: {error}") from error
        if done.returncode:
            raise FatalError(
                f"the extension for HiveMQ cannot be built with {javac}: "
                f"{last_words(done.stdout + done.stderr)}"
            )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
            archive.writestr(_SERVICE, _MAIN + "\n")
            for one in sorted(Path(name).rglob("*.class")):
                archive.write(one, one.relative_to(name))
    return packed.getvalue()
