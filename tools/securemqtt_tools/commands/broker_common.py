"""What the subcommands of `securemqtt broker` have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from securemqtt_tools.broker import foreground, lock
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.engine import Engine
from securemqtt_tools.broker.process import engine_of
from securemqtt_tools.cli import FatalError, as_called, warn
from securemqtt_tools.home import Home
from securemqtt_tools.output import is_terminal
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.layout import check_exists
from securemqtt_tools.pki.passphrase import passphrase_source


def directory_of(args: argparse.Namespace) -> Path:
    """Return the broker's directory."""
    return Home(args.home).broker


def authority_of(args: argparse.Namespace) -> Authority:
    """Open the authority of this home. Raise FatalError."""
    home = Home(args.home)
    check_exists(home.ca)
    source = passphrase_source(getattr(args, "passphrase_file", None))  # not all need a key
    return Authority.open(home.ca, source, witnesses=home.witnesses)


def is_authority_here(args: argparse.Namespace) -> bool:
    """Return True if this home has an authority: a broker runs without one as well."""
    return Home(args.home).ca.exists()


def without_authority(args: argparse.Namespace) -> str:
    """Say what follows where there is none."""
    return (
        f"certificate and CRL are used as they are, since the authority is not here: there is no "
        f"{Home(args.home).ca}"
    )


def where(config: BrokerConfig) -> str:
    """Say where a broker listens."""
    address = config.bind or "all addresses"
    wss = f", WebSockets on {config.websockets_port}" if config.websockets_port is not None else ""
    return f"port {config.port}{wss} of {address}"


def tell(config: BrokerConfig) -> None:
    """Have the running broker take up what has changed, and say what is to be done, and what of
    the rules that one, or the one that takes its place, does not keep to. Raise FatalError when the
    rules cannot be read.
    """
    runs = lock.noted(config.directory)
    pid = foreground.tell_to_reload(config.directory)
    if pid is not None:
        print(f"The running broker (process {pid}) takes it up now.")
    else:
        print(
            as_called(
                "The broker takes it up when it starts; if it is installed in the system, run "
                "securemqtt broker install."
            )
        )
    with suppress(FatalError):  # a broker that is not here says so itself, where it starts
        engine = engine_of(config, runs.wanted if runs is not None else None)
        say_shortcomings(engine.neglects(config))


def say_shortcomings(shortcomings: Iterable[str]) -> None:
    """Say what a broker cannot do of what the settings and the rules ask for."""
    for one in shortcomings:
        print(f"Note: {one}.", flush=True)


def confirmed(question: str) -> bool:
    """Ask whether to go on. Raise FatalError where nobody can be asked."""
    if not is_terminal(sys.stdin):
        raise FatalError("there is no terminal to ask whether to go on: add --yes")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        print()
        return False


def installed(config: BrokerConfig) -> Engine | None:
    """Return the broker that the settings are for; None, and a warning, where it is not here."""
    try:
        return engine_of(config)
    except FatalError as error:
        warn(str(error))
        return None
