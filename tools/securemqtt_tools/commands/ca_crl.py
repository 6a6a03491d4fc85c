"""`securemqtt ca revoke`, `crl` and `recover`: what is revoked, and the CRL that says so."""

from __future__ import annotations

import argparse
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.broker.privileges import become_holder
from securemqtt_tools.broker.revocations import CRL, FILES, hand_over
from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.commands.ca_home import open_authority, print_warnings
from securemqtt_tools.home import Home
from securemqtt_tools.pki import layout, recovery, succession
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.entry import Entry
from securemqtt_tools.pki.files import READABLE
from securemqtt_tools.pki.profiles import SERVER


def revoke(args: argparse.Namespace) -> None:
    """Revoke certificates and write the new CRL."""
    authority = open_authority(args)
    authority.find(args.subject, args.role)
    check_crls(args, authority)
    authority.unlock()  # no key, no CRL: then nothing shall be recorded as revoked either
    revoked = authority.revoke(args.subject, reason=args.reason, role=args.role)
    for entry in revoked:
        print(escaped(f"Revoked {entry.role} {entry.subject}, serial {entry.serial}."))
    publish_crl(args, authority)
    say_what_devices_know(revoked)
    print_warnings(args, authority)


def crl(args: argparse.Namespace) -> None:
    """Sign a new CRL."""
    authority = open_authority(args)
    check_crls(args, authority, args.out)
    publish_crl(args, authority, days=args.days)
    if args.out:
        authority.write_crl(args.out, READABLE)
        print(f"Written to {args.out} as well.")
    print_warnings(args, authority)


def recover(args: argparse.Namespace) -> None:
    """Have an inventory that comes from a backup learn what it has forgotten, and sign a CRL."""
    home: Path = args.home
    authority = open_authority(args)
    succession.check(authority)
    found = recovery.search(args.places, authority.issuing_certificate)
    # root may have been needed to read what is installed, and for no more
    become_holder(authority.directory)
    places = (
        authority.directory / CRL,
        authority.directory / layout.ISSUED,
        Home(home).broker,
        Home(home).bundles,
    )
    found += recovery.search(places, authority.issuing_certificate)
    for place in args.places:
        if not any(one.path.is_relative_to(place) for one in found):
            raise FatalError(f"{place} holds nothing that this authority has signed")
    authority.unlock()  # no key, no CRL: then nothing shall be recorded either
    done = recovery.take_over(authority.inventory, found)
    newest = authority.inventory.newest_crl()
    if not done and newest is not None and done.number <= newest.number:
        print("The inventory knows all of it: nothing to take over.")
    else:
        print(
            f"Taken over: revocations: {done.revocations}, certificates: {done.certificates}, from "
            f"files: {len(found)}."
        )
        publish_crl(args, authority, above=done.number)
    unknown, _ = authority.inventory.forgotten()
    if unknown:
        print(
            f"Revoked, and known by serial number only: {len(unknown)}. The CRL lists them, until "
            f"the authority ends."
        )
    print_warnings(args, authority)


def check_crls(args: argparse.Namespace, authority: Authority, other: Path | None = None) -> None:
    """Raise FatalError, before anything is changed, when a CRL that is to be replaced says what the
    inventory does not know.
    """
    for path in (Home(args.home).broker / CRL, other, authority.directory / CRL):
        if path is not None:
            authority.check_knows(path)


def publish_crl(
    args: argparse.Namespace, authority: Authority, days: int | None = None, above: int = 0
) -> None:
    """Sign a new CRL, and write it, with what follows from it, to its place and to the broker of
    the same home. Raise FatalError.
    """
    authority.crl_pem(days=days, above=above)
    newest = hand_over(authority, authority.directory)
    print(
        f"CRL {newest.number}, valid until {newest.next_update:%Y-%m-%d}: "
        f"{authority.directory / CRL}"
    )
    broker: Path = Home(args.home).broker
    if (broker / CRL).exists():
        hand_over(authority, broker)
        print(f"Given to the broker as well: {broker / CRL}")
    print("A broker refuses devices that are listed from its next reload on.")
    print(
        f"A broker elsewhere needs {', '.join(FILES)} of {authority.directory} in its directory "
        f"(docs/certificates.md)."
    )


def say_what_devices_know(revoked: list[Entry]) -> None:
    """Say what a revocation does not do: who has a server's key passes for it until the end."""
    servers = [one for one in revoked if one.role == SERVER]
    if servers:
        end = max(one.not_after for one in servers)
        print(
            f"Devices check no CRL: whoever has the old key can pass for {servers[0].subject} "
            f"until {end:%Y-%m-%d}, when its certificate ends."
        )
        print(
            as_called(
                "What to do when it was stolen is in docs/certificates.md; first give the broker a "
                "new key: securemqtt broker reload, or securemqtt broker renew --now where it has "
                "an issuing key."
            )
        )
