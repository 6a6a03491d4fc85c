"""A client at somebody's desk, for `securemqtt pub` and `securemqtt sub`: which bundle it uses, how
it connects, and how it leaves.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from securemqtt import Client
from securemqtt.errors import BundleNotFound, SecureMQTTError
from securemqtt.platform import bundle_places
from securemqtt.settings import Settings
from securemqtt_tools import completion
from securemqtt_tools.cli import FatalError, add_home_option, whole_number
from securemqtt_tools.home import Home
from securemqtt_tools.naming import closest

IDENTITY = """
The connection is made as whoever the bundle is of. A broker has one connection for each id: a
program that runs with the same id elsewhere is cut off, and its session ends. So give yourself an
id of your own, once, that may do all that an operator may:
  securemqtt broker grant me operator
  securemqtt provision pi --id me --broker mqtt.local --out ~/.securemqtt/bundles/me"""
_LEAVING_S = 1
_CONNECT_S = 30


class DeskClient(Client):
    """A client that also says what it was told: what its `~` stands for, and what a cloud takes."""

    @property
    def settings(self) -> Settings:
        """The options, checked."""
        return self._connection.settings


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which bundle is used, and with which QoS."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="the bundle to connect with (default: $SECUREMQTT_BUNDLE, else /etc/securemqtt, else "
        "~/.config/securemqtt)",
    )
    identity = which.add_argument(
        "-i",
        "--as",
        dest="identity",
        metavar="ID",
        help="connect as ID, whose bundle is in HOME/bundles/ID, or where --bundle looks",
    )
    completion.completed(identity, completion.bundles)
    parser.add_argument(
        "-q", "--qos", type=int, choices=(0, 1, 2), default=1, help="quality of service (default 1)"
    )
    parser.add_argument(
        "--timeout",
        type=whole_number(1, 3600, "s"),
        metavar="S",
        help=f"how long a connection may take (default {_CONNECT_S}); what comes after it: --wait",
    )
    add_home_option(parser)


def home_hint(topics: Iterable[str]) -> str:
    """Return what is to be added to an error where a topic is the home directory's, which the shell
    puts in the place of a ~; "" if none is.
    """
    home = str(Path.home())
    if not any(one == home or one.startswith(f"{home}/") for one in topics):
        return ""
    return f"; the shell has put {home} in the place of ~, so quote it: '~/…'"


@contextmanager
def connected(args: argparse.Namespace) -> Iterator[DeskClient]:
    """Connect, and leave in order, also when the process is told to end. Raise FatalError."""
    try:
        with _log_held_back():
            client = _client(args)
            client.connect(args.timeout or _CONNECT_S)
    except SecureMQTTError as error:
        raise FatalError(str(error)) from error
    try:
        yield client
    except SecureMQTTError as error:
        raise FatalError(str(error)) from error
    finally:
        client.disconnect(_LEAVING_S)


@contextmanager
def _log_held_back() -> Iterator[None]:
    """Log what the block has to say when it has ended well: an error says it all, in one line."""
    logger = logging.getLogger("securemqtt")
    held: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        held.append(record)
        return False

    logger.addFilter(hold)
    try:
        yield
    finally:
        logger.removeFilter(hold)
    for record in held:
        logger.handle(record)


def _client(args: argparse.Namespace) -> DeskClient:
    home = Home(args.home)
    bundle = _bundle(args, home)
    try:
        return DeskClient(bundle, status=False, clean_session=True, outbox_full="refuse")
    except BundleNotFound as error:
        if bundle is not None:
            raise
        there = ", ".join(home.ids())
        known = f": of {there}" if there else ""
        raise FatalError(
            "no bundle was found in the usual places. Name one: with --as ID, which takes that in "
            f"{home.bundles}{known}; or with --bundle DIR (see --help). Or make one: "
            f"{home.making('me')}"
        ) from error


def _bundle(args: argparse.Namespace, home: Home) -> Path | None:
    """Return the bundle's directory; None: where the library looks. Raise FatalError."""
    identity: str | None = args.identity
    if identity is None:
        bundle: Path | None = args.bundle
        return bundle
    nowhere = f"there is no bundle of {identity!r}"
    if identity in ("", ".", "..") or "/" in identity:
        raise FatalError(f"{nowhere}: an id is a name, and no path")
    if (home.bundle(identity) / "config.json").exists():
        return home.bundle(identity)
    for place in bundle_places():
        if _id_of(Path(place)) == identity:
            return Path(place)
    nowhere += f" in {home.bundles}"
    if home.has_certified(identity):
        raise FatalError(
            f"{nowhere}, though it has a certificate: name its bundle with --bundle DIR, or take "
            f"an id of your own: {home.making('me')}"
        )
    meant = closest(identity, home.ids())
    raise FatalError(
        nowhere
        + (f" (did you mean {meant}?)" if meant else "")
        + f": make one with {home.making(identity)}"
    )


def _id_of(bundle: Path) -> str | None:
    """Return whose bundle it is; None where there is none, or none that can be read."""
    try:
        config = json.loads((bundle / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    name = config.get("client_id") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None
