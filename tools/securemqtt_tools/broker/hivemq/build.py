"""The extension that gives HiveMQ CE rules and revocation, built from its source with javac."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tempfile
import zipfile
from pathlib import Path

from securemqtt_tools.broker.children import last_words
from securemqtt_tools.broker.hivemq.program import Program, find_java
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, write_files

EXTENSION = "securemqtt"
SOURCES = Path(__file__).parent / "extension"
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


def install_extension(program: Program, directory: Path) -> None:
    """Build the extension against this HiveMQ, if that was not done yet, and write it into the
    directory of its extensions. Raise FatalError. Takes a few seconds.
    """
    sources = sorted(SOURCES.glob("*.java"))
    digest = hashlib.sha256()
    with explained(f"read {SOURCES}"):
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
