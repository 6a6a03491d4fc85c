"""The other ways onto a board: `mpremote mip install`, and frozen into a firmware."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from securemqtt_tools.provision.board.compiler import Compiler
from securemqtt_tools.provision.board.library import board_sources, library_directory
from securemqtt_tools.provision.board.umqtt import MIP, umqtt_sources
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.provisioning import contents
from support.boards.simboard import mpremote
from support.documents.board_packages import MANIFEST, PACKAGE, ROOT, manifest, package_json
from support.interpreters.micropython import CACHE, mpy_version, umqtt_directory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serve the repository, and an index of packages that has umqtt.simple, on loopback."""
    umqtt_directory()
    (tmp_path / "repository").symlink_to(ROOT)
    hashes = []
    for name, content in Compiler(CACHE).compile(umqtt_sources(CACHE), mpy_version()).items():
        digest = hashlib.sha256(content).hexdigest()[:8]
        path = tmp_path / "index" / "file" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        hashes.append([name, digest])
    listing = (
        tmp_path / "index" / "package" / str(mpy_version()) / "umqtt.simple" / f"{MIP.version}.json"
    )
    listing.parent.mkdir(parents=True)
    listing.write_text(json.dumps({"v": 1, "version": MIP.version, "hashes": hashes}))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_the_files_are_up_to_date() -> None:
    remedy = "run: python tests/support/documents/board_packages.py"
    assert PACKAGE.read_text() == package_json(), remedy
    assert MANIFEST.read_text() == manifest(), remedy


def test_mip_installs_the_same_program(simulated_board: SimulatedBoard, site: str) -> None:
    options = ["--index", f"{site}/index"]
    mpremote(simulated_board, "mip", "install", *options, f"{site}/repository/package.json")
    held = contents(simulated_board)
    for name, text in board_sources(library_directory()).items():
        assert held[f"/lib/{name}"] == hashlib.sha256(text.encode()).hexdigest(), name
    program = "import umqtt.simple, securemqtt; print(securemqtt.__file__, securemqtt.Client)"
    said = mpremote(simulated_board, "exec", program)
    assert said == "/lib/securemqtt/__init__.py <class 'Client'>\n"


# MicroPython's tools write the texts of a frozen module as UTF-8.
def test_every_text_of_a_board_s_module_can_be_frozen() -> None:
    faulty = {
        name
        for name, text in board_sources(library_directory()).items()
        if name.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant)
        if isinstance(node.value, str)
        if node.value.encode(errors="ignore").decode() != node.value
    }
    assert faulty == set()
