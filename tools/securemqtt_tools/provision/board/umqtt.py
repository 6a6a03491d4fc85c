"""umqtt.simple for boards that have not got it frozen in: from the cache, from micropython.org, or
from PyPI.

What each source is to send stands here, by its SHA-256, and nothing else is taken: not what a
source says of itself, and not what a cache holds that was filled from one. The cache keeps the
source, so one download serves boards of every kind.
"""

from __future__ import annotations

import hashlib
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import write_files

_INDEX = "https://micropython.org/pi/v2"
_TIMEOUT_S = 10
_LARGEST_BYTES = 256 * 1024
_PYPI = "https://pypi.org/simple/"
_FOLDER = "umqtt.simple"


@dataclass(frozen=True)
class Release:
    """umqtt.simple as one source has it: the SHA-256 of each module, by its name below /lib."""

    source: str
    version: str
    modules: Mapping[str, str]


# Another version: compute the hashes from a copy that did not come from that source. On
# micropython.org is what tools/build.py of micropython-lib makes: the module, and behind it a line
# with its version.
MIP = Release(
    "micropython.org",
    "1.8.0",
    {"umqtt/simple.py": "de2fbae737b0e69a256a0602a333d241ed6235ab093c80ad955082d9006c06e2"},
)
PYPI = Release(
    "pypi.org",
    "1.3.4",
    {"umqtt/simple.py": "8555d2f654deb8eb0d724f79b0811a78cc94029d070f3d96bbd74288653d63a5"},
)
# A bare sdist, which pip would not build.
_SDIST_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"

Package = dict[str, bytes]  # name relative to /lib, content


def umqtt_sources(cache: Path) -> dict[str, str]:
    """Return umqtt.simple's modules (`umqtt/simple.py`) and their source: from `cache`, else
    downloaded, in some seconds.

    Raise FatalError when there is neither a whole copy in the cache nor a way to the network.
    """
    sources = cached_sources(cache)
    if sources is None:
        package = _download()
        for name, content in package.items():
            write_files((cache / _FOLDER / name).parent, {Path(name).name: content})
        sources = _decoded(package)
    return sources


def cached_sources(cache: Path) -> dict[str, str] | None:
    """Return what `umqtt_sources` does if it is in `cache`, whole; None if it is not."""
    for release in (MIP, PYPI):
        try:
            package = {name: (cache / _FOLDER / name).read_bytes() for name in release.modules}
        except OSError:
            continue
        if _is(release, package):
            return _decoded(package)
    return None


def _decoded(package: Package) -> dict[str, str]:
    return {name: content.decode() for name, content in package.items()}


def _is(release: Release, package: Package) -> bool:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in package.items()}
    return digests == release.modules


def _download() -> Package:
    failures = []
    sources: tuple[tuple[Release, Callable[[Release], Package]], ...] = (
        (MIP, _from_mip),
        (PYPI, _from_pypi),
    )
    for release, fetch in sources:
        try:
            package = fetch(release)
        except _Unavailable as error:
            failures.append(f"{release.source}: {error}")
            continue
        if _is(release, package):
            return package
        failures.append(
            f"{release.source}: what it sends is not umqtt.simple {release.version} by its SHA-256"
        )
    raise FatalError(
        f"umqtt.simple is not in the cache and cannot be downloaded ({'; '.join(failures)}): go "
        f"online once"
    )


class _Unavailable(Exception):
    """One source does not deliver; the message says why."""


def _from_mip(release: Release) -> Package:
    """Fetch what `mpremote mip install` would put on the board, as source, without a board.

    Files lie there by the first digits of their SHA-256, so the index is not asked.
    """
    return {
        name: _fetch(f"{_INDEX}/file/{digest[:2]}/{digest[:8]}")
        for name, digest in release.modules.items()
    }


def _from_pypi(release: Release) -> Package:
    """Fetch a release of PyPI and take it apart."""
    from unearth import PackageFinder

    wanted = f"micropython-umqtt.simple=={release.version}"
    with tempfile.TemporaryDirectory(prefix="securemqtt-umqtt-") as directory:
        try:
            best = PackageFinder(index_urls=[_PYPI]).find_best_match(wanted).best
            if best is None:
                raise LookupError(f"{wanted} is not there")
            PackageFinder().download_and_unpack(
                best.link, directory, hashes={"sha256": [_SDIST_SHA256]}
            )
            return {name: (Path(directory) / name).read_bytes() for name in release.modules}
        # unearth lets the errors of its HTTP library through, whichever it is
        except Exception as error:
            raise _Unavailable((str(error) or type(error).__name__).splitlines()[0]) from error


def _fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:  # noqa: S310  (an https address of ours)
            content: bytes = response.read(_LARGEST_BYTES)
    except (urllib.error.URLError, OSError) as error:
        raise _Unavailable(str(getattr(error, "reason", error))) from error
    return content
