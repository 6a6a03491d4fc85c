"""What `securemqtt broker status` does."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone

from rich.table import Table
from rich.text import Text

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.status import ask_status
from securemqtt_tools.cli import as_called, warn
from securemqtt_tools.commands.telling import table_console
from securemqtt_tools.home import Home


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: it has none."""


def status(args: argparse.Namespace) -> int:
    """Show how the broker is; 0 if something answers at its port, else 1. Raise FatalError."""
    home = Home(args.home)
    found = ask_status(BrokerConfig.open(home.broker), datetime.now(timezone.utc), home.ca)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, value in found.rows.items():
        table.add_row(title, Text(as_called(value)))
    table_console().print(table)
    for line in found.warnings:
        warn(line)
    return 0 if found.answers else 1
