"""`securemqtt ca list` and `show`: what was issued, and the authority itself."""

from __future__ import annotations

import argparse
import json
from datetime import timedelta

from securemqtt_tools.commands.ca_home import open_authority, print_warnings
from securemqtt_tools.commands.telling import table_console
from securemqtt_tools.pki import report
from securemqtt_tools.pki.entry import ISSUED
from securemqtt_tools.pki.health import warnings
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.profiles import ROLES


def list_entries(args: argparse.Namespace) -> None:
    """List what was issued."""
    authority = open_authority(args)
    now = authority.now
    entries = [entry for entry in authority.inventory.entries(args.role) if entry.role in ROLES]
    if args.state:
        entries = [entry for entry in entries if entry.state_at(now) == args.state]
    if args.expiring is not None:
        last = now + timedelta(days=args.expiring)
        entries = [
            entry for entry in entries if entry.state_at(now) == ISSUED and entry.not_after <= last
        ]
    if args.json:
        print(report.entries_json(entries, now))
    elif entries:
        console = table_console()
        for line in report.entries_lines(entries, now, console.width):
            console.print(line, soft_wrap=True)
    else:
        print("No certificate to show.")
    print_warnings(authority)


def show(args: argparse.Namespace) -> None:
    """Show a certificate's life, or the authority."""
    authority = open_authority(args)
    entries = authority.find(args.subject, args.role) if args.subject else []
    if args.pem:
        pem = (
            entries[-1].pem
            if entries
            else b"".join(certificate_pem(one) for one in authority.trust_anchors())
        )
        print(pem.decode(), end="")
    elif args.subject and args.json:
        print(report.entries_json(entries, authority.now))
    elif args.subject:
        table_console().print(
            *(report.entry_table(entry, authority.now) for entry in entries), sep="\n"
        )
    else:
        facts = report.authority_object(authority, warnings(authority))
        if args.json:
            print(json.dumps(facts, indent=2))
        else:
            table_console().print(report.authority_table(facts))
    print_warnings(authority)
