"""What a release is made of, and how: built here from the checkout, installed and tried.

`make release-rehearsal` does the rest, which needs the network: two builds compared, what pip
brings along, the tools from the wheel, the bill of materials.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import securemqtt
from support.release.building import repack, unpack
from support.release.contents import sdist_faults, wheel_faults
from support.release.state import NotReady, changelog_faults, source_version
from support.release.trial import try_library_alone
from support.setup_environment import ROOT
from support.speed import seconds

VERSION = securemqtt.__version__
FOLDERS = ("boards", "docs", "firmware", "lib", "tests", "tools")
FILES = (
    "*.md",
    "*.json",
    "*.lock",
    "*.cfg",
    "*.toml",
    "*.in",
    "manifest.py",
    "Makefile",
    "LICENSE",
)
_BUILD = """\
import sys
from setuptools import build_meta
made = sys.argv[1]  # setuptools has arguments of its own there afterwards
build_meta.build_sdist(made)
build_meta.build_wheel(made)
"""
pytestmark = pytest.mark.xdist_group("release")


class Built(NamedTuple):
    """A wheel and an sdist, and the names of the files that they were made of."""

    wheel: Path
    sdist: Path
    sources: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build from a copy, since setuptools leaves things behind; offline, with our setuptools."""
    source = tmp_path_factory.mktemp("source")
    made = tmp_path_factory.mktemp("made")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for pattern in FILES:
        for file in ROOT.glob(pattern):
            shutil.copy(file, source)
    names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(made)],
        cwd=source,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds(100),
    )
    assert done.returncode == 0, done.stdout
    (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
    repack(sdist, 1_700_000_000)
    return Built(wheel, sdist, names)


def test_a_wheel_and_an_sdist_hold_what_they_should(built: Built) -> None:
    assert wheel_faults(built.wheel, built.sources, VERSION) == []
    assert sdist_faults(built.sdist, built.sources, VERSION) == []


def test_what_a_wheel_should_not_be_is_told(built: Built, tmp_path: Path) -> None:
    wheel = tmp_path / built.wheel.name
    with zipfile.ZipFile(built.wheel) as good, zipfile.ZipFile(wheel, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("METADATA"):
                content = content.replace(
                    b"Requires-Dist", b"Requires-Dist: rich\nRequires-Dist", 1
                )
            if name != "securemqtt_tools/boards/pico_w.toml":
                bad.writestr(name, content)
        bad.writestr("securemqtt/device.key", "")
    assert wheel_faults(wheel, built.sources, VERSION) == [
        "the wheel lacks securemqtt_tools/boards/pico_w.toml",
        "the wheel should not have securemqtt/device.key",
        "the wheel has a key or certificate: securemqtt/device.key",
        "the wheel needs rich: paho-mqtt is all that a device may need",
    ]
    # of the dist-info, whose name has the version, all is missing and too much
    assert "the wheel says version" in wheel_faults(built.wheel, built.sources, "9.9")[-1]


def test_what_an_sdist_lacks_is_told(built: Built) -> None:
    sources = [*built.sources, "docs/new.md", ".ci/run"]
    assert sdist_faults(built.sdist, sources, VERSION) == [
        f"the sdist lacks securemqtt-{VERSION}/docs/new.md"
    ]


def test_a_repacked_sdist_has_nothing_of_its_making(built: Built, tmp_path: Path) -> None:
    again = tmp_path / built.sdist.name
    unpack(built.sdist.read_bytes(), tmp_path / "unpacked")
    with tarfile.open(built.sdist) as archive:
        assert {(member.mtime, member.uid, member.uname) for member in archive} == {
            (1_700_000_000, 0, "")
        }
    with tarfile.open(again, "w:gz") as archive:  # with times and owners of its own
        top = tmp_path / "unpacked" / f"securemqtt-{VERSION}"
        for path in sorted(top.rglob("*"), reverse=True):
            archive.add(path, f"{top.name}/{path.relative_to(top)}", recursive=False)
    assert again.read_bytes() != built.sdist.read_bytes()
    repack(again, 1_700_000_000)
    assert gzip.decompress(again.read_bytes()) == gzip.decompress(built.sdist.read_bytes())
    assert again.read_bytes() == built.sdist.read_bytes()


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python has no filters")
def test_nothing_is_unpacked_outside_its_directory(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as made:
        made.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(tarfile.FilterError):
        unpack(archive.getvalue(), tmp_path / "inside")
    assert not (tmp_path / "outside").exists()


def test_the_library_alone_says_what_it_lacks(built: Built, tmp_path: Path) -> None:
    """In an environment that has the wheel and paho-mqtt, and nothing else, not even pip."""
    environment = tmp_path / "environment"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(environment)],
        check=True,
        timeout=seconds(60),
    )
    (packages,) = environment.glob("lib/python3*/site-packages")
    for file in metadata.files("paho-mqtt") or []:
        if file.suffix != ".pyc":
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), packages / file)
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--no-index"]
    subprocess.run([*pip, "--quiet", str(built.wheel)], check=True, timeout=seconds(100))
    try_library_alone(environment, VERSION)


def test_the_version_is_in_one_place() -> None:
    settings = (ROOT / "setup.cfg").read_text()
    assert "\nversion = attr: securemqtt.__version__\n" in settings and VERSION not in settings
    assert source_version((ROOT / "lib" / "securemqtt" / "__init__.py").read_text()) == VERSION
    assert json.loads((ROOT / "package.json").read_text())["version"] == VERSION
    manifest = ast.parse((ROOT / "manifest.py").read_text())
    said = [ast.unparse(node) for node in manifest.body if "metadata" in ast.unparse(node)]
    assert said[-1] == f"metadata(version='{VERSION}')"


def test_the_changelog_begins_with_this_version() -> None:
    faults = list(changelog_faults((ROOT / "CHANGELOG.md").read_text(), VERSION))
    assert [one for one in faults if "was released" not in one] == []


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ("## 1.2.3 (2026-11-28)\n\nNow it works.\n\n## 1.2.2 (2026-11-01)\n", None),
        ("## 1.2.3 (unreleased)\n\nNow it works.\n", "does not say when 1.2.3 was released"),
        ("## 1.2.3\n\nNow it works.\n", "does not say when 1.2.3 was released"),
        ("## 1.2.2 (2026-11-01)\n\nIt works.\n", "newest section is not that of 1.2.3"),
        ("", "newest section is not that of 1.2.3"),
        ("## 1.2.3 (2026-11-28)\n\n## 1.2.2 (2026-11-01)\n", "says nothing of 1.2.3"),
    ],
)
def test_a_changelog_that_is_not_ready(sections: str, fault: str | None) -> None:
    faults = list(changelog_faults(f"# Changelog\n\nNewest first.\n\n{sections}", "1.2.3"))
    assert len(faults) == (0 if fault is None else 1)
    assert all(fault in one for one in faults if fault is not None)


def test_a_source_without_a_version_is_told() -> None:
    with pytest.raises(NotReady, match="__version__"):
        source_version('"""No version."""\n')
