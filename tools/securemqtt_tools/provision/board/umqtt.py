"""umqtt.simple for boards that have not got it frozen in: from the cache, else from mip's index,
else from PyPI.

The cache keeps the source, so one download serves boards of every kind; what it holds is checked by
hash each time.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import write_files

_INDEX = "https://micropython.org/pi/v2"
_TIMEOUT_S = 10
_LARGEST_BYTES = 256 * 1024
_PINNED = "micropython-umqtt.simple==1.3.4"
_PINNED_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
_PYPI = "https://pypi.org/simple/"
_FOLDER = "umqtt.simple"
_MANIFEST = "package.json"

Package = dict[str, bytes]  # name relative to /lib, content


def umqtt_sources(cache: Path) -> dict[str, str]:
    """Return umqtt.simple's modules (`umqtt/simple.py`) and their source: from `cache`, else
    downloaded, in some seconds.

    Raise FatalError when there is neither a whole copy in the cache nor a way to the network.
    """
    sources = cached_sources(cache)
    if sources is None:
        package, source = _download()
        _keep(cache / _FOLDER, package, source)
        sources = _decoded(package)
    return sources


def cached_sources(cache: Path) -> dict[str, str] | None:
    """Return what `umqtt_sources` does if it is in `cache`, whole; None if it is not."""
    package = _cached(cache / _FOLDER)
    return None if package is None else _decoded(package)


def _decoded(package: Package) -> dict[str, str]:
    return {name: content.decode() for name, content in package.items()}


def _cached(directory: Path) -> Package | None:
    try:
        manifest: dict[str, Any] = json.loads((directory / _MANIFEST).read_bytes())
        package = {name: (directory / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError):
        return None
    whole = all(
        hashlib.sha256(package[name]).hexdigest() == digest
        for name, digest in manifest["files"].items()
    )
    return package if whole and package else None


def _keep(directory: Path, package: Package, source: str) -> None:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in package.items()}
    for name, content in package.items():
        write_files((directory / name).parent, {Path(name).name: content})
    write_files(
        directory, {_MANIFEST: json.dumps({"source": source, "files": digests}, indent=2).encode()}
    )


def _download() -> tuple[Package, str]:
    failures = []
    sources: tuple[Callable[[], tuple[Package, str]], ...] = (_from_mip, _from_pypi)
    for source in sources:
        try:
            return source()
        except _Unavailable as error:
            failures.append(str(error))
    raise FatalError(
        f"umqtt.simple is not in the cache and cannot be downloaded ({'; '.join(failures)}): go "
        f"online once"
    )


class _Unavailable(Exception):
    """One source does not deliver; the message says why."""


def _from_mip() -> tuple[Package, str]:
    """Fetch what `mpremote mip install umqtt.simple` would put on the board, as source, without a
    board.
    """
    address = f"{_INDEX}/package/py/umqtt.simple/latest.json"
    try:
        listing = json.loads(_fetch(address))
        hashes = [(str(name), str(digest)) for name, digest in listing["hashes"]]
        version = str(listing.get("version", "latest"))
    except (ValueError, KeyError, TypeError) as error:
        raise _Unavailable(f"{address} is no package index") from error
    package: Package = {}
    for name, digest in hashes:
        content = _fetch(f"{_INDEX}/file/{digest[:2]}/{digest}")
        if not hashlib.sha256(content).hexdigest().startswith(digest) or not _expected(name):
            raise _Unavailable(f"{name} from micropython.org is not what its index lists")
        package[name] = content
    return _whole(package, "micropython.org"), f"{address} ({version})"


def _from_pypi() -> tuple[Package, str]:
    """Fetch the release of PyPI that is pinned by its hash; it is a bare sdist, which pip would not
    build.
    """
    from unearth import PackageFinder

    with tempfile.TemporaryDirectory(prefix="securemqtt-umqtt-") as directory:
        try:
            best = PackageFinder(index_urls=[_PYPI]).find_best_match(_PINNED).best
            if best is None:
                raise LookupError(f"{_PINNED} is not there")
            PackageFinder().download_and_unpack(
                best.link, directory, hashes={"sha256": [_PINNED_SHA256]}
            )
        # unearth lets the errors of its HTTP library through, whichever it is
        except Exception as error:
            raise _Unavailable(f"pypi.org: {str(error).splitlines()[0]}") from error
        root = Path(directory)
        files = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted((root / "umqtt").glob("*.py"))
        }
    return _whole(files, "pypi.org"), f"{_PYPI} {_PINNED}"


def _whole(package: Package, origin: str) -> Package:
    if "umqtt/simple.py" not in package:
        raise _Unavailable(f"the package from {origin} has no umqtt/simple.py")
    return package


def _expected(name: str) -> bool:
    """Return True if a name is a module of umqtt, and leads nowhere else."""
    folder, _, module = name.partition("/")
    return (
        folder == "umqtt" and module.endswith(".py") and module.removesuffix(".py").isidentifier()
    )


def _fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:  # noqa: S310  (an https address of ours)
            content: bytes = response.read(_LARGEST_BYTES)
    except (urllib.error.URLError, OSError) as error:
        raise _Unavailable(f"micropython.org: {getattr(error, 'reason', error)}") from error
    return content
