"""`securemqtt ca revoke`, `crl` and `recover`: what is revoked, and the CRL that says so."""

from __future__ import annotations

import argparse
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.broker import recovered
from securemqtt_tools.broker.config import ISSUER
from securemqtt_tools.broker.privileges import become_holder
from securemqtt_tools.broker.revocations import CRL, FILES, check, hand_over
from securemqtt_tools.broker.rules import Rules
from securemqtt_tools.broker.rules_file import newest_rules
from securemqtt_tools.cli import FatalError, as_called, warn
from securemqtt_tools.commands.broker_sharing import no_more_sharing, revoke_shared
from securemqtt_tools.commands.ca_home import open_authority, print_warnings
from securemqtt_tools.home import Home
from securemqtt_tools.pki import layout, recovery, succession
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.entry import REVOKED, Entry
from securemqtt_tools.pki.files import READABLE
from securemqtt_tools.pki.profiles import DEVICE, ROLES, SERVER, SHARED


def revoke(args: argparse.Namespace) -> None:
    """Revoke certificates and write the new CRL."""
    authority = open_authority(args)
    rules = _known_rules(args, authority)
    _check_own(authority, rules, args.subject)
    found = authority.find(args.subject, args.role)
    is_valid = any(one.state != REVOKED and one.not_after > authority.now for one in found)
    devices = {one.subject for one in found if one.role == DEVICE}
    if not is_valid and args.subject in devices and rules.sharing(args.subject):
        print(f"{args.subject} has no certificate of its own that is still valid to be revoked.")
        revoke_shared(args, authority, devices)
        return
    check_crls(args, authority)
    authority.unlock()  # no key, no CRL: then nothing shall be recorded as revoked either
    say_who_shares(args, authority, found)
    with no_more_sharing(args, authority, devices if is_valid else ()):
        revoked = authority.revoke(args.subject, reason=args.reason, role=args.role)
        for entry in revoked:
            print(escaped(f"Revoked {entry.role} {entry.subject}, serial {entry.serial}."))
        publish_crl(args, authority)
        say_what_devices_know(args, revoked)
        print_warnings(authority)


def _known_rules(args: argparse.Namespace, authority: Authority) -> Rules:
    """Return the rules, none where they cannot be read, which keeps nobody from being revoked:
    `no_more_sharing` tells of it.
    """
    try:
        return newest_rules(authority.directory, Home(args.home).broker)
    except FatalError:
        return Rules()


def say_who_shares(args: argparse.Namespace, authority: Authority, found: list[Entry]) -> None:
    """Say which devices are put out, where one of what is to be revoked is shared."""
    groups = sorted({one.subject for one in found if one.role == SHARED})
    if not groups:
        return
    try:
        shared = newest_rules(authority.directory, Home(args.home).broker).shared
    except FatalError as error:
        warn(f"{error}. Who shares what is revoked cannot be told")
        shared = {}
    for group in groups:
        ids = sorted(shared.get(group, ()))
        which = f", which {len(ids)} share: {', '.join(ids)}" if ids else ""
        print(f"This puts out every device that shows the certificate of {group}{which}.")


def _check_own(authority: Authority, rules: Rules, subject: str) -> None:
    """Raise FatalError for a device that has no certificate to revoke, since it shares one."""
    groups = rules.sharing(subject)
    if groups and not authority.inventory.entries(DEVICE, subject):
        raise FatalError(
            f"{subject} has no certificate of its own, it shares that of {groups[0]}: securemqtt "
            f"broker password {subject} --remove keeps it out alone, securemqtt broker group "
            f"{groups[0]} --remove {subject} takes it out of the group, too, and securemqtt ca "
            f"revoke {groups[0]} puts out all that share it"
        )


def crl(args: argparse.Namespace) -> None:
    """Sign a new CRL."""
    authority = open_authority(args)
    check_crls(args, authority, args.out)
    publish_crl(args, authority, days=args.days)
    if args.out:
        authority.write_crl(args.out, READABLE)
        print(f"Written to {args.out} as well.")
    print_warnings(authority)


def recover(args: argparse.Namespace) -> None:
    """Have an inventory that comes from a backup learn what it has forgotten, and sign a CRL."""
    home: Path = args.home
    authority = open_authority(args)
    witnesses = recovery.files_of(args.places)
    replaced = succession.replaced(authority, witnesses)
    if replaced:
        raise FatalError(f"{replaced}. Nothing was changed")
    former = succession.former(authority, witnesses)
    found = recovery.search(args.places, authority.issuing_certificate)
    later = recovered.look(args.places, authority)
    # root may have been needed to read what is installed, and for no more
    become_holder(authority.directory)
    places = (
        authority.directory / CRL,
        authority.directory / layout.ISSUED,
        Home(home).broker,
        Home(home).bundles,
    )
    found += recovery.search(places, authority.issuing_certificate)
    # of those that are named, `look` tells
    named = tuple(one.resolve() for one in args.places)
    closed = [
        one
        for one in recovery.closed_in(places)
        if not any(one.resolve().is_relative_to(place) for place in named)
    ]
    for place in args.places:
        if not any(one.path.is_relative_to(place) for one in found):
            raise FatalError(f"{place} holds nothing that this authority has signed")
    if not former:
        authority.unlock()  # no key, no CRL: then nothing shall be recorded either
    with no_more_sharing(args, authority, recovery.news_of_devices(authority.inventory, found)):
        done = recovery.take_over(authority.inventory, found)
        newest = authority.inventory.newest_crl()
        if not done and newest is not None and done.number <= newest.number:
            print("The inventory knows all of it: nothing to take over.")
        else:
            print(
                f"Taken over: revocations: {done.revocations}, certificates: {done.certificates}, "
                f"from files: {len(found)}."
            )
        unlisted = any(
            one.state == REVOKED and one.in_crl is None and one.role in ROLES
            for one in authority.inventory.entries()
        )
        if not former and (done or unlisted or newest is None or done.number > newest.number):
            publish_crl(args, authority, above=done.number)  # first, whatever the rest comes to
    for line in (
        *recovered.take_over(later, authority, Home(home).broker),
        *recovered.left_closed(closed),
    ):
        print(escaped(as_called(line)))
    if former:
        raise FatalError(former)
    unknown, _ = authority.inventory.forgotten()
    if unknown:
        print(
            f"Revoked, and known by serial number only: {len(unknown)}. The CRL lists them, until "
            f"the authority ends."
        )
        sharing = _known_rules(args, authority).shared
        for group, ids in sorted(sharing.items()):
            print(
                as_called(
                    f"One of them may be of a device that still shares the certificate of {group}: "
                    f"{', '.join(sorted(ids))}. Whom you know to be revoked, take out: securemqtt "
                    f"broker group {group} --remove ID."
                )
            )
    print_warnings(authority)


def check_crls(args: argparse.Namespace, authority: Authority, other: Path | None = None) -> None:
    """Raise FatalError, before anything is changed, when a CRL that is to be replaced says what the
    inventory does not know.
    """
    check(authority, Home(args.home).broker)
    if other is not None:
        authority.check_knows(other)


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
    print(
        as_called(
            "A broker refuses devices that are listed once it takes that up: securemqtt broker "
            "reload, and securemqtt broker install where it is installed."
        )
    )
    files = (one for one in FILES if (authority.directory / one).exists())
    print(
        f"A broker elsewhere needs {', '.join(files)} of {authority.directory} in its directory "
        f"(docs/certificates.md)."
    )


def say_what_devices_know(args: argparse.Namespace, revoked: list[Entry]) -> None:
    """Say what a revocation does not do: who has a server's key passes for it until the end; and
    where the broker has an issuing key, what it shows is not among those that were revoked.
    """
    servers = [one for one in revoked if one.role == SERVER]
    has_issuer = (Home(args.home).broker / ISSUER).exists()
    if servers:
        end = max(one.not_after for one in servers)
        print(
            f"Devices check no CRL: whoever has the old key can pass for {servers[0].subject} "
            f"until {end:%Y-%m-%d}, when its certificate ends."
        )
        if has_issuer:
            print(
                "The broker's present certificate is of its issuing key, and not among these: no "
                "CRL lists such a one, which ends within 90 days."
            )
        first = "renew --now" if has_issuer else "reload"
        print(
            as_called(
                f"What to do when it was stolen is in docs/certificates.md; first give the broker "
                f"a new key: securemqtt broker {first}."
            )
        )
