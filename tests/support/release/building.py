"""Build sdist and wheel from what is committed, so that anyone gets the same bytes."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from support.release import contents
from support.release.state import NotReady, git
from support.setup_environment import ROOT


def build_twice(scratch: Path, version: str) -> list[Path]:
    """Return sdist and wheel. Raise NotReady unless a second build, in another place, gives the
    same bytes, and both hold what they should.
    """
    tracked = git("ls-tree", "-r", "--name-only", "HEAD").splitlines()
    epoch = int(git("log", "-1", "--format=%ct"))
    first, second = (_build(scratch / place, epoch) for place in ("first", "second-build"))
    faults = [
        *contents.sdist_faults(first[0], tracked, version),
        *contents.wheel_faults(first[1], tracked, version),
    ]
    if faults:
        raise NotReady("\n  ".join(["contents:", *faults]))
    for one, other in zip(first, second, strict=True):
        if one.read_bytes() != other.read_bytes():
            raise NotReady(f"{one.name} is not the same when it is built a second time")
    return first


def _build(place: Path, epoch: int) -> list[Path]:
    """Build the sdist from what is committed, and the wheel from the sdist."""
    source, made = place / "source", place / "made"
    source.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "archive", "--format=tar", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    unpack(archive.stdout, source)
    _run_build("--sdist", source, made, epoch)
    (sdist,) = made.glob("*.tar.gz")
    repack(sdist, epoch)
    unpack(gzip.decompress(sdist.read_bytes()), place / "unpacked")
    (unpacked,) = (place / "unpacked").iterdir()
    _run_build("--wheel", unpacked, made, epoch)
    (wheel,) = made.glob("*.whl")
    return [sdist, wheel]


def _run_build(what: str, source: Path, made: Path, epoch: int) -> None:
    """Run `build` with the locked setuptools of this environment."""
    done = subprocess.run(
        [sys.executable, "-m", "build", what, "--no-isolation", "--outdir", str(made), str(source)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        timeout=300,
    )
    if done.returncode:
        raise NotReady(f"the build failed:\n{done.stdout[-3000:]}")


def repack(sdist: Path, epoch: int) -> None:
    """Write an sdist again without what differs from build to build (times, owners, order), and
    without setuptools' notes about its own making (egg-info).
    """
    packed, unpacked = io.BytesIO(), io.BytesIO(gzip.decompress(sdist.read_bytes()))
    with tarfile.open(fileobj=unpacked) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for member in sorted(old, key=lambda one: one.name):
            if member.isdir() or ".egg-info/" in member.name:
                continue
            plain = tarfile.TarInfo(member.name)
            plain.size, plain.mtime = member.size, epoch
            plain.mode = 0o755 if member.mode & 0o100 else 0o644
            new.addfile(plain, old.extractfile(member))
    sdist.write_bytes(gzip.compress(packed.getvalue(), mtime=epoch))


def unpack(archive: bytes, directory: Path) -> None:
    """Unpack a tar archive, compressed or not; nothing goes outside the directory, where Python has
    a filter for that (since 3.10.12 and 3.11.4). Raise tarfile.FilterError.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        opened.extractall(directory)  # noqa: S202  (it has its filter)
