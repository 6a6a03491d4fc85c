"""What commands tell in the same way: a warning, a table."""

from __future__ import annotations

import sys

from rich.console import Console

from securemqtt.platform import escaped
from securemqtt_tools.cli import as_called

_PIPE_COLUMNS = 200


def warn(message: str) -> None:
    """Print a warning on standard error, at once."""
    print(f"securemqtt: warning: {escaped(as_called(message))}", file=sys.stderr, flush=True)


def table_console() -> Console:
    """Return a console for tables; into a pipe or a file they are as wide as they need to be."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
