"""umqtt.simple is what the repository says it is, wherever it comes from."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from securemqtt_tools.cli import FatalError
from securemqtt_tools.provision.board import umqtt
from securemqtt_tools.provision.board.umqtt import MIP, PYPI, cached_sources, umqtt_sources
from support.documents.board_packages import PACKAGE
from support.interpreters.micropython import umqtt_directory

NAME = "umqtt/simple.py"
EVIL = b"import os\nclass MQTTClient:\n    pass\n"


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback; return the address."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture(autouse=True)
def no_pypi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the second source: nobody listens there."""
    monkeypatch.setattr(umqtt, "_PYPI", "https://127.0.0.1:9/simple/")


def put(root: Path, digest: str, content: bytes, listed: str) -> None:
    """Write a file as micropython.org has it, and the index that lists it."""
    for path, text in (
        (root / "file" / digest[:2] / digest[:8], content),
        (root / "file" / listed[:2] / listed, content),
        (
            root / "package" / "py" / "umqtt.simple" / "latest.json",
            json.dumps({"v": 1, "version": MIP.version, "hashes": [[NAME, listed]]}).encode(),
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.write_bytes(text)


@pytest.mark.parametrize("digits", [0, 1, 8, 64], ids="{} digits".format)
def test_another_file_is_refused_whatever_the_index_says_of_it(
    digits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = MIP.modules[NAME]
    put(tmp_path / "site", digest, EVIL, hashlib.sha256(EVIL).hexdigest()[:digits])
    with served(tmp_path / "site") as address:
        monkeypatch.setattr(umqtt, "_INDEX", address)
        with pytest.raises(FatalError, match=r"micropython.org: .* by its SHA-256; pypi.org: "):
            umqtt_sources(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_right_file_is_taken_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (umqtt_directory() / NAME).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    put(tmp_path / "site", digest, content, digest[:8])
    # The module that is at hand stands for that of micropython.org, which is not in the repository.
    monkeypatch.setattr(umqtt, "MIP", replace(MIP, modules={NAME: digest}))
    with served(tmp_path / "site") as address:
        monkeypatch.setattr(umqtt, "_INDEX", address)
        assert umqtt_sources(tmp_path / "cache") == {NAME: content.decode()}
    assert cached_sources(tmp_path / "cache") == {NAME: content.decode()}


def test_a_cache_that_vouches_for_itself_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "umqtt.simple"
    (folder / "umqtt").mkdir(parents=True)
    (folder / NAME).write_bytes(EVIL)
    listed = {"source": "mip", "files": {NAME: hashlib.sha256(EVIL).hexdigest()}}
    (folder / "package.json").write_text(json.dumps(listed))
    assert cached_sources(tmp_path) is None


def test_each_source_is_pinned() -> None:
    for release in (MIP, PYPI):
        assert re.fullmatch(r"\d+\.\d+\.\d+", release.version)
        assert NAME in release.modules
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in release.modules.values())
    assert ["umqtt.simple", MIP.version] in json.loads(PACKAGE.read_text())["deps"]
    # What the tests run on is one of them.
    digest = hashlib.sha256((umqtt_directory() / NAME).read_bytes()).hexdigest()
    assert digest in (MIP.modules[NAME], PYPI.modules[NAME])
