"""`securemqtt ca init`, and what the root's key is needed for later: its intermediate."""

from __future__ import annotations

import argparse
from functools import cache

from securemqtt_tools.broker.memory import Memory
from securemqtt_tools.cli import as_called
from securemqtt_tools.commands.ca_crl import publish_crl
from securemqtt_tools.commands.ca_home import authority_directory, open_authority, progress_console
from securemqtt_tools.commands.telling import table_console
from securemqtt_tools.home import Home
from securemqtt_tools.pki import layout, report, succession
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.passphrase import new_passphrase, passphrase_source


def init(args: argparse.Namespace) -> None:
    """Make the authority."""
    directory = authority_directory(args)
    layout.refuse_existing(directory)
    passphrase = None
    if not args.leave_keys_unencrypted:
        passphrase = new_passphrase(args.passphrase_file, "the certificate authority")
    with progress_console().status("Making keys"):
        authority = Authority.create(
            directory,
            name=args.name,
            passphrase=passphrase,
            intermediate=args.intermediate,
            key_type=args.key_type,
        )
    table_console().print(report.authority_table(report.authority_object(authority, [])))
    if passphrase is None:
        print("The keys are not encrypted: whoever reads them can make certificates.")
    if args.intermediate:
        print(
            as_called(
                f"Keep {directory / layout.ROOT_KEY} offline: only securemqtt ca "
                f"renew-intermediate, ca replace-intermediate and broker issuer need it "
                f"(--root-key FILE)."
            )
        )
    print(as_called(f"Keep a backup of {args.home}. Next: securemqtt broker init NAME…"))


def renew_intermediate(args: argparse.Namespace) -> None:
    """Certify the intermediate's key anew."""
    authority = open_authority(args)
    succession.check(authority)
    source = passphrase_source(args.passphrase_file, "Passphrase of the root's key")
    certificate = layout.renew_intermediate(
        authority.directory, args.root_key, source, authority.now
    )
    print(f"The intermediate is valid until {certificate.not_valid_after_utc:%Y-%m-%d}.")
    print(
        as_called(
            "Brokers and devices get it with their next certificate. The broker of this home: "
            "securemqtt broker reload, and securemqtt broker install where it is installed. Boards "
            "and Pis: securemqtt provision once more, when theirs is due. Others: securemqtt ca "
            "renew NAME."
        )
    )


def replace_intermediate(args: argparse.Namespace) -> None:
    """Revoke the intermediate and make another."""
    authority, home = open_authority(args), Home(args.home)
    Memory.read(home.broker)  # that it is whole
    # A replaced intermediate is what this is for, a replaced authority is not.
    if not succession.replaced(authority):
        succession.check(authority)
    # Asked for once: the new intermediate's key, which signs the CRL, has the same.
    source = cache(passphrase_source(args.passphrase_file, "Passphrase of the root's key"))
    certificate = layout.replace_intermediate(
        authority.directory, args.root_key, source, authority.now, home.witnesses
    )
    print(f"There is a new intermediate, until {certificate.not_valid_after_utc:%Y-%m-%d}.")
    root_crl = authority.directory / layout.ROOT_CRL
    print(f"The old one is revoked, in {root_crl}.")
    authority = Authority.open(authority.directory, source, witnesses=home.witnesses)
    publish_crl(args, authority)
    print(
        as_called(
            "Next: securemqtt broker reload, then provision every device again: until then brokers "
            "refuse it. Devices check no CRL: docs/certificates.md."
        )
    )
