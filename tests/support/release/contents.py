"""What has to be in a wheel and in an sdist, by rule, and what must not be."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from pathlib import Path, PurePosixPath

# Where a folder of the repository goes in the wheel: all of its files, and no others.
_PLACES = {
    "lib/securemqtt": "securemqtt",
    "tools/securemqtt_tools": "securemqtt_tools",
    "boards": "securemqtt_tools/boards",
    "firmware": "securemqtt_tools/firmware",
    "tests/contract/scenarios": "securemqtt_tools/scenarios",
}
_DIST_INFO = (
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "top_level.txt",
)
# What the one who reads an sdist looks for; that the rest is there follows from the rule.
_DOCUMENTS = ("LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "docs/getting-started.md")
_KEYS_AND_CERTIFICATES = {".key", ".pem", ".der", ".crt", ".p12", ".csr"}
_DEPENDENCY = "paho-mqtt"


def wheel_faults(wheel: Path, tracked: Iterable[str], version: str) -> list[str]:
    """Return what is wrong with a wheel that was made of the files `tracked`."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        dist_info = f"securemqtt-{version}.dist-info"
        metadata_name = f"{dist_info}/METADATA"
        metadata = archive.read(metadata_name) if metadata_name in names else b""
    wanted = {f"{dist_info}/{name}" for name in _DIST_INFO}
    for name in tracked:
        for folder, place in _PLACES.items():
            if name.startswith(f"{folder}/"):
                wanted.add(f"{place}/{name.removeprefix(f'{folder}/')}")
    needs = [one for one in _values(metadata, "Requires-Dist") if "extra ==" not in one]
    return [
        *_differences("the wheel", wanted, names),
        *(
            f"the wheel needs {one}: {_DEPENDENCY} is all that a device may need"
            for one in needs
            if not one.startswith(_DEPENDENCY)
        ),
        *([] if needs else [f"the wheel does not need {_DEPENDENCY}"]),
        *_wrong_version("the wheel", metadata, version),
    ]


def sdist_faults(sdist: Path, tracked: Iterable[str], version: str) -> list[str]:
    """Return what is wrong with an sdist that was made of the files `tracked`."""
    top = f"securemqtt-{version}/"
    with tarfile.open(sdist) as archive:
        names = {member.name for member in archive if not member.isdir()}
        about = f"{top}PKG-INFO"
        member = archive.extractfile(about) if about in names else None
        metadata = member.read() if member is not None else b""
    wanted = {about} | {f"{top}{name}" for name in tracked if not _hidden(name)}
    wanted |= {f"{top}{name}" for name in _DOCUMENTS}
    return [
        *_differences("the sdist", wanted, names),
        *_wrong_version("the sdist", metadata, version),
    ]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _differences(what: str, wanted: set[str], names: set[str]) -> list[str]:
    secret = {name for name in names if PurePosixPath(name).suffix in _KEYS_AND_CERTIFICATES}
    return [
        *(f"{what} lacks {name}" for name in sorted(wanted - names)),
        *(f"{what} should not have {name}" for name in sorted(names - wanted)),
        *(f"{what} has a key or certificate: {name}" for name in sorted(secret)),
    ]


def _wrong_version(what: str, metadata: bytes, version: str) -> list[str]:
    said = _values(metadata, "Version")
    return [] if said == [version] else [f"{what} says version {said}, the source {version}"]


def _values(metadata: bytes, field: str) -> list[str]:
    return [str(value) for value in message_from_bytes(metadata).get_all(field, [])]
