"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from securemqtt import face, platform


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a directory for each test, for support.interpreters.either.scratch."""
    monkeypatch.setenv("SECUREMQTT_TEST_DIRECTORY", str(tmp_path))


@pytest.fixture(autouse=True)
def real_network_is_back() -> Iterator[None]:
    """Fail a test that leaves the network in memory of support.models to those that come next."""
    yield
    assert face.Loop is platform.Loop
