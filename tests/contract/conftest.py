from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def board_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for what is compiled for a board, once."""
    return tmp_path_factory.mktemp("board")
