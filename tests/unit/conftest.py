"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a directory for each test, for support.interpreters.either.scratch."""
    monkeypatch.setenv("SECUREMQTT_TEST_DIRECTORY", str(tmp_path))
