"""What `securemqtt broker run` does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from securemqtt_tools.broker import foreground, issuing
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.devices import NewDevices
from securemqtt_tools.broker.health import warnings
from securemqtt_tools.broker.kinds import SMALL
from securemqtt_tools.broker.privileges import become_holder, check_port
from securemqtt_tools.broker.process import BrokerProcess
from securemqtt_tools.broker.unit import tell_systemd
from securemqtt_tools.cli import FatalError, warn
from securemqtt_tools.commands.broker_cluster import say_waiting
from securemqtt_tools.commands.broker_common import (
    authority_of,
    directory_of,
    is_authority_here,
    say_shortcomings,
    where,
    without_authority,
)
from securemqtt_tools.home import Home
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.passphrase import passphrase_source


def run(args: argparse.Namespace) -> int:
    """Run the broker in the foreground."""
    user = become_holder(directory_of(args))
    config = BrokerConfig.open(directory_of(args))
    if user is not None:
        for port in filter(None, (config.port, config.websockets_port)):
            check_port(port)
    _renew_by_issuer(config, args.issuer_passphrase_file)
    _refresh(args, config, lambda: authority_of(args))
    for warning in warnings(config, datetime.now(timezone.utc)):
        warn(warning)
    # By the name that was given: where that is a link, it may come to lead elsewhere.
    broker = BrokerProcess(directory_of(args), engine=args.engine)
    say_waiting(config.cluster)

    def started() -> None:
        print(
            f"{broker.title} is running: {where(broker.config)}. Log: {broker.log}. Ctrl-C ends "
            f"it.",
            flush=True,
        )
        if user is not None:
            print(
                f"It has no rights of root's: it runs as {user}, whose {config.directory} is.",
                flush=True,
            )
        elif os.geteuid() == 0:
            # whose service is one of ours is not installed for root, either
            other = ", or let the system's Mosquitto run it (securemqtt broker install)"
            warn(
                f"it runs as root, since {config.directory} is root's and no other user could read "
                f"it: whoever breaks into the broker has this computer. Set it up as a user of "
                f"your own{other if broker.engine in SMALL else ''}"
            )
        say_shortcomings(broker.shortcomings())
        tell_systemd()
        if broker.kept is None:
            warn(foreground.FOR_TRYING)

    def upkeep() -> bool:
        # Nobody is there to be asked for a passphrase any more.
        source = passphrase_source(args.passphrase_file) if args.passphrase_file else None
        try:
            current = BrokerConfig.open(config.directory)
            renewed = _renew_by_issuer(current, args.issuer_passphrase_file)
            home = Home(args.home)
            opened = partial(Authority.open, home.ca, source, witnesses=home.witnesses)
            changed = _refresh(args, current, opened) or renewed
            now = datetime.now(timezone.utc)
            for warning in warnings(current, now, only_crl_counts=True):
                warn(warning)
            return changed
        except FatalError as error:
            warn(str(error))  # a clock that jumped, perhaps: what runs goes on
            return False

    foreground.serve(
        broker, started, lambda line: print(line, flush=True), upkeep, _news(args, broker)
    )
    print("The broker has ended.")
    return 0


def _news(args: argparse.Namespace, broker: BrokerProcess) -> Callable[[], bool]:
    """Return what tells whether there are devices that the broker has to be told of."""
    home = Home(args.home)
    changed: NewDevices | None = None
    said = ""

    def has_news() -> bool:
        nonlocal changed, said
        if not broker.must_know_devices:  # a reload may make it one that must
            return False
        try:
            if changed is None:
                here = is_authority_here(args)
                known = Authority.open(home.ca, witnesses=home.witnesses) if here else None
                changed = NewDevices(broker.directory, known)
            return changed()
        except FatalError as error:
            if str(error) != said:
                said = str(error)
                warn(said)
            return False

    return has_news


def _refresh(
    args: argparse.Namespace, config: BrokerConfig, authority: Callable[[], Authority]
) -> bool:
    """Bring CRL and certificate up to date as far as possible, and warn; return True if they
    changed. Raise FatalError.
    """
    before = _crl_and_certificate(config)
    if not is_authority_here(args):
        warn(without_authority(args))
        config.follow_rules()  # the rules may have come with the CRL
        return False
    try:
        config.refresh(authority())
    except FatalError as error:
        warn(f"certificate and CRL are used as they are: {error}")
    return before != _crl_and_certificate(config)


def _crl_and_certificate(config: BrokerConfig) -> tuple[object, object]:
    """Return both; no CRL where there is none, or a damaged one, which a refresh makes whole."""
    crl = None
    with suppress(FatalError):
        crl = config.crl()
    return crl, config.server_certificate()


def _renew_by_issuer(config: BrokerConfig, file: Path | None) -> bool:
    """Renew the certificate if it is time and the passphrase is at hand; warn where it fails."""
    if file is None or not config.has_issuer:
        return False
    try:
        return issuing.renew(config, passphrase_source(file), datetime.now(timezone.utc))
    except FatalError as error:
        warn(f"the certificate is used as it is: {error}")
        return False
