"""How commands show a table."""

from __future__ import annotations

import sys

from rich.console import Console

from securemqtt_tools.output import is_terminal

_PIPE_COLUMNS = 200


def table_console() -> Console:
    """Return a console for tables; into a pipe or a file they are as wide as they need to be."""
    return Console() if is_terminal(sys.stdout) else Console(width=_PIPE_COLUMNS)
