"""What the subcommands of `securemqtt broker` do."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone

from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.markup import escape

from securemqtt.platform import escaped
from securemqtt_tools.broker import check as looking
from securemqtt_tools.broker import config as files
from securemqtt_tools.broker import issuing, passwords
from securemqtt_tools.broker.config import BrokerConfig, NotRenewedError
from securemqtt_tools.broker.health import revocation_of, warnings
from securemqtt_tools.broker.privileges import become_holder
from securemqtt_tools.broker.revocations import check_crl
from securemqtt_tools.broker.rules import ROLES
from securemqtt_tools.cli import FatalError, as_called, warn
from securemqtt_tools.commands.broker_common import (
    authority_of,
    directory_of,
    is_authority_here,
    tell,
    without_authority,
)
from securemqtt_tools.pki import Authority, succession
from securemqtt_tools.pki.crls import issuer_of, key_of
from securemqtt_tools.pki.files import write_file
from securemqtt_tools.pki.health import crl_fault
from securemqtt_tools.pki.keys import Passphrase
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.passphrase import new_passphrase, passphrase_source

_ISSUER_OPTION = "--issuer-passphrase-file"
_MARKS = {True: "[green]yes[/]", False: "[red]NO [/]", None: "[dim]-- [/]"}


def reload(args: argparse.Namespace) -> int:
    """Bring the broker's files up to date and tell the running one."""
    config = BrokerConfig.open(directory_of(args))
    here = is_authority_here(args)
    if here:
        authority = authority_of(args)
        _say_fault(authority)
        shown = config.server_certificate()
        try:
            config.refresh(authority)
        except NotRenewedError:
            tell(config)  # of a revocation, perhaps
            raise
        if config.server_certificate() != shown:
            _say_certificate(config)
    else:
        check_crl(config.directory)
        config.follow_rules()  # the rules may have come with the CRL
    _say_crl(config)
    tell(config)
    if not here:
        print(f"Note: {without_authority(args)}.")
        for warning in warnings(config, datetime.now(timezone.utc)):
            warn(warning)
    return 0


def issuer(args: argparse.Namespace) -> int:
    """Give the broker an issuing key of its own."""
    config = BrokerConfig.open(directory_of(args))
    authority, before = authority_of(args), config.server_certificate()
    if config.is_public:
        raise FatalError(issuing.PUBLIC)
    secret = new_passphrase(args.issuer_passphrase_file, "the broker's issuing key", _ISSUER_OPTION)
    config = issuing.set_up(config, authority, secret, days=args.days, root_key=args.root_key)
    end = config.issuer_certificate().not_valid_after_utc
    print(
        f"The broker has an issuing key, for {', '.join(config.names)} alone, until "
        f"{end:%Y-%m-%d}: {config.directory / files.ISSUER_KEY}"
    )
    _say_certificate(config)
    if issuer_of(before) == key_of(authority.issuing_certificate):
        print(
            f"The one of before is good until {before.not_valid_after_utc:%Y-%m-%d}, for whoever "
            f"has a copy of its key, from a backup perhaps: devices check no CRL."
        )
    print(
        as_called(
            "Have securemqtt broker renew run every day, or give securemqtt broker run "
            "--issuer-passphrase-file: docs/certificates.md."
        )
    )
    tell(config)
    return 0


def renew(args: argparse.Namespace) -> int:
    """Renew the broker's certificate by its issuing key, if it is time."""
    source: Passphrase = passphrase_source(
        args.issuer_passphrase_file, "Passphrase of the broker's issuing key", _ISSUER_OPTION
    )
    if args.issuer_passphrase_file and callable(source):
        source = source()  # a credential of systemd's is root's to read
    become_holder(directory_of(args))
    config = BrokerConfig.open(directory_of(args))
    now = datetime.now(timezone.utc)
    if issuing.renew(config, source, now, args.now):
        _say_certificate(config)
        tell(config)
    else:
        certificate = config.server_certificate()
        print(
            f"The certificate is valid until {certificate.not_valid_after_utc:%Y-%m-%d}, and less "
            f"than a third of its life is over: nothing to renew."
        )
    for warning in warnings(config, now):
        warn(warning)
    return 0


def grant(args: argparse.Namespace) -> int:
    """Return an id a role."""
    identity = check_device_id(args.id)
    config = BrokerConfig.open(directory_of(args))
    config = config.with_role(identity, args.role if args.role in ROLES else None)
    print(
        f"{identity} "
        f"{ROLES[args.role].summary if args.role in ROLES else 'has its own prefix only'}."
    )
    tell(config)
    return 0


def password(args: argparse.Namespace) -> int:
    """Make a password, or take it away."""
    config = BrokerConfig.open(directory_of(args))
    if not config.passwords:
        raise FatalError(
            "this broker asks for no passwords: run securemqtt broker init --force --passwords "
            "first"
        )
    file = config.directory / files.PASSWORDS
    if args.remove:
        if not passwords.remove_password(file, args.id):
            raise FatalError(f"{args.id} has no password")
        print(f"{args.id} has no password any more.")
    else:
        if args.out.exists():
            raise FatalError(f"{args.out} exists and was left as it is: choose another file")
        passwords.set_password(file, args.id, lambda word: write_file(args.out, word.encode()))
        print(f"The password of {args.id} is in {args.out}; the broker keeps its hash only.")
    tell(config)
    return 0


def check(args: argparse.Namespace) -> int:
    """Look at the running broker from outside; 1 when something is not as it should be."""
    config = BrokerConfig.open(directory_of(args))
    host = args.host or config.local_host
    # A public one is renewed when a third is left.
    part = 0.1 if config.is_public else 0.5
    newest = config.server_certificate().public_bytes(Encoding.DER)
    findings = []
    console = Console(soft_wrap=True, highlight=False)
    for port in filter(None, (config.port, config.websockets_port)):
        with Console(stderr=True).status("Knocking"):
            trust = config.server_trust()
            found = looking.check(host, port, config.names[0], trust, newest, part)
        console.print(
            f"Port {port}{' (WebSockets)' if port == config.websockets_port else ''} of "
            f"{escape(host)}:"
        )
        for finding in found:
            console.print(
                f"{_MARKS[finding.good]}  {escape(escaped(f'{finding.what}: {finding.detail}'))}"
            )
        findings += found
    for warning in warnings(config, datetime.now(timezone.utc)):
        warn(warning)
    bad = any(finding.good is False for finding in findings) or revocation_of(config) is not None
    return 1 if bad else 0


def _say_fault(authority: Authority) -> None:
    """Say why another CRL has to be signed in the place of one that nobody shall have."""
    if not succession.fault(authority) and (fault := crl_fault(authority)):
        warn(f"{fault}; another one is signed")


def _say_certificate(config: BrokerConfig) -> None:
    end = config.server_certificate().not_valid_after_utc
    key = "" if config.is_public else ", with a new key,"
    print(f"The broker shows a new certificate{key} until {end:%Y-%m-%d}.")


def _say_crl(config: BrokerConfig) -> None:
    crl = config.crl()
    end = crl.next_update_utc
    print(
        f"The CRL lists {len(crl)} revoked, valid until {end:%Y-%m-%d}."
        if end
        else f"The CRL lists {len(crl)}."
    )
