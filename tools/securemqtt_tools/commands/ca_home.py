"""The authority of a home, for the subcommands of `securemqtt ca`: opened, and what it warns of."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from securemqtt_tools.cli import warn
from securemqtt_tools.commands.broker_sharing import heed_rules
from securemqtt_tools.home import Home
from securemqtt_tools.output import is_terminal
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.health import warnings
from securemqtt_tools.pki.passphrase import passphrase_source


def authority_directory(args: argparse.Namespace) -> Path:
    """Return the directory of the home's authority, which need not be there."""
    return Home(args.home).ca


def open_authority(args: argparse.Namespace) -> Authority:
    """Return the home's authority, with the way to its passphrase. Raise FatalError."""
    authority = Authority.open(
        authority_directory(args),
        passphrase_source(getattr(args, "passphrase_file", None)),
        witnesses=Home(args.home).witnesses,
    )
    return heed_rules(args, authority)


def print_warnings(authority: Authority) -> None:
    """Print what is to be done about the authority before long, and what its inventory has
    forgotten.
    """
    for line in warnings(authority):
        warn(line)


def progress_console() -> Console:
    """Return a console for progress, which is shown to people at a terminal only."""
    return Console(stderr=True, quiet=not is_terminal(sys.stderr))
