"""`securemqtt ca server`, `device`, `sign`, `renew`: issue a certificate and write it to files."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from rich.progress import track

from securemqtt.platform import escaped
from securemqtt_tools.broker.networks import Network, parse_network
from securemqtt_tools.broker.rules import check_group
from securemqtt_tools.cli import FatalError, as_called, warn
from securemqtt_tools.commands.broker_network import bind, show
from securemqtt_tools.commands.broker_rules import (
    check_no_device,
    check_no_group,
    hand_on,
    join,
    rules_of,
)
from securemqtt_tools.commands.ca_crl import (
    check_crls,
    publish_crl,
    say_what_devices_know,
    say_who_shares,
)
from securemqtt_tools.commands.ca_home import (
    authority_directory,
    open_authority,
    print_warnings,
    progress_console,
)
from securemqtt_tools.pki import layout
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.deliver import deliver, foreign_keys, prepare
from securemqtt_tools.pki.entry import SUPERSEDED
from securemqtt_tools.pki.files import explained
from securemqtt_tools.pki.issued import Issued
from securemqtt_tools.pki.names import check_device_id, name_text, server_names
from securemqtt_tools.pki.passphrase import new_passphrase
from securemqtt_tools.pki.profiles import DEVICE, SERVER, SHARED

_LARGEST_REQUEST = 64 * 1024


def server(args: argparse.Namespace) -> None:
    """Issue a server's certificate."""
    authority = open_authority(args)
    subject = name_text(server_names(args.names)[0])
    issue(
        args,
        authority,
        {
            subject: lambda: authority.issue_server(
                args.names, days=args.days, key_type=args.key_type, renew=args.renew
            )
        },
        SERVER,
    )


def device(args: argparse.Namespace) -> None:
    """Issue devices' certificates, or none when one of them cannot have one."""
    authority = open_authority(args)

    def issuing(device_id: str) -> Callable[[], Issued]:
        return lambda: authority.issue_device(
            device_id, days=args.days, key_type=args.key_type, renew=args.renew
        )

    before = rules_of(args)
    check_no_group(authority, before, args.ids)  # of all, before the first has one
    for one in args.groups:
        check_group(one)
        check_no_device(authority, one, args.ids)
    networks = list(map(parse_network, args.networks))
    if not args.renew:
        _check_vacant(args, authority)
    issue(
        args,
        authority,
        {check_device_id(device_id): issuing(device_id) for device_id in args.ids},
        DEVICE,
    )
    join_and_bind(args, authority, args.ids, networks)
    leaving = [one for one in args.ids if before.sharing(one)]
    if args.groups or networks:
        if leaving:
            print("The broker takes that up at its next reload, too.")
        else:
            hand_on(args)


def join_and_bind(
    args: argparse.Namespace, authority: Authority, ids: list[str], networks: list[Network]
) -> None:
    """Have ids join the groups that were asked for, and bind them to networks. Raise FatalError."""
    for one in args.groups:
        join(args, authority, one, ids)
        print(f"In group {one}: {', '.join(ids)}.")
    if networks:
        now = bind(args, authority, ids, networks)
        for one in ids:
            show(now, one)


def sign(args: argparse.Namespace) -> None:
    """Sign a request."""
    authority = open_authority(args)
    with explained(f"read {args.request}"), args.request.open("rb") as file:
        content = file.read(_LARGEST_REQUEST)
    if args.out:
        prepare(args.out, args.role, replacing=True)  # a request may well lie beside its key
    issued = authority.sign_csr(
        content,
        role=args.role,
        device_id=args.id,
        names=args.names,
        days=args.days,
        renew=args.renew,
    )
    directory = args.out or default_output(args, issued.role, issued.subject)
    _say_issued(authority, issued, deliver(authority, issued, directory, args.der))
    for path in foreign_keys(issued, directory):
        warn(f"{path} is the key of a certificate before this one, and does not fit it: delete it")
    print_warnings(authority)


def renew(args: argparse.Namespace) -> None:
    """Issue anew for the same subject and names."""
    authority = open_authority(args)
    latest = authority.find(args.subject, args.role)[-1]
    passphrase = _key_passphrase(args)
    before = authority.find(latest.subject, latest.role)
    if args.revoke_old:
        check_crls(args, authority)
        authority.unlock()  # before anything is said of what follows
        say_who_shares(args, authority, before)
    directory = args.out or default_output(args, latest.role, latest.subject)
    prepare(directory, latest.role, replacing=True)
    issued = authority.renew(
        latest.subject, role=latest.role, days=args.days, revoke_old=args.revoke_old
    )
    _say_issued(authority, issued, deliver(authority, issued, directory, args.der, passphrase))
    if args.revoke_old:
        publish_crl(args, authority)
        say_what_devices_know(args, [one for one in before if one.not_after > authority.now])
    elif latest.role == SHARED:
        say_still_good(authority, latest.subject)
    print_warnings(authority)


def say_still_good(authority: Authority, group: str) -> None:
    """Say so where certificates that a group has shared stay good beside its new one."""
    before = [
        one
        for one in authority.inventory.entries(SHARED, group)
        if one.state == SUPERSEDED and one.not_after > authority.now
    ]
    if before:
        end = max(one.not_after for one in before)
        print(
            as_called(
                f"What {group} has shared before stays good until {end:%Y-%m-%d}, and keeps "
                f"letting in whoever has the key and a password. If the key was stolen: securemqtt "
                f"ca renew {group} --revoke-old makes another certificate, and revokes all before "
                f"it."
            )
        )


def issue(
    args: argparse.Namespace,
    authority: Authority,
    issuing: dict[str, Callable[[], Issued]],
    role: str,
) -> None:
    """Check everything first, then issue to each subject and write its files."""
    directories = {subject: args.out or default_output(args, role, subject) for subject in issuing}
    if args.out and len(issuing) > 1:
        directories = {subject: args.out / subject for subject in issuing}
    if not args.renew:
        for subject in issuing:
            authority.check_vacant(role, subject)
    authority.unlock()
    passphrase = _key_passphrase(args)
    for directory in directories.values():
        prepare(directory, role, replacing=args.renew or args.out is None)
    done: list[tuple[Issued, list[Path]]] = []
    try:
        for subject, issue in track(
            issuing.items(), "Issuing", console=progress_console(), transient=True
        ):
            issued = issue()
            done.append(
                (issued, deliver(authority, issued, directories[subject], args.der, passphrase))
            )
    finally:
        for issued, files in done:
            _say_issued(authority, issued, files)
    print_warnings(authority)


def _check_vacant(args: argparse.Namespace, authority: Authority) -> None:
    """Raise FatalError where a device has a certificate, and say how groups and networks come to it
    without a new one.
    """
    for one in args.ids:
        try:
            authority.check_vacant(DEVICE, check_device_id(one))
        except FatalError as error:
            ways = [f"securemqtt broker group {group} {one}" for group in args.groups]
            if args.networks:
                ways.append(f"securemqtt broker network {one} {shlex.join(args.networks)}")
            if not ways:
                raise
            raise FatalError(f"{error}; without a new one: {'; '.join(ways)}") from error


def _key_passphrase(args: argparse.Namespace) -> bytes | None:
    if args.key_passphrase_file and args.key_passphrase_file == args.passphrase_file:
        raise FatalError(
            "--key-passphrase-file and --passphrase-file are the same: give the key a passphrase "
            "of its own"
        )
    if args.key_passphrase_file or args.encrypt_key:
        return new_passphrase(args.key_passphrase_file, "the private key", "--key-passphrase-file")
    return None


def default_output(args: argparse.Namespace, role: str, subject: str) -> Path:
    """Return the directory that what is issued goes to, unless another is asked for."""
    kind = SHARED if role == SHARED else f"{role}s"
    return authority_directory(args) / layout.ISSUED / kind / subject


def _say_issued(authority: Authority, issued: Issued, files: list[Path]) -> None:
    end = issued.certificate.not_valid_after_utc
    is_shared = issued.role == SHARED
    whom = escaped(f"{'group' if is_shared else issued.role} {issued.subject}")
    whom += ", to be shared," * is_shared
    print(f"Issued to {whom} until {end:%Y-%m-%d}, serial {issued.serial}:")
    for file in files:
        print(f"  {escaped(str(file))}")
    if end == authority.issuing_certificate.not_valid_after_utc:
        print("It ends this early because the authority's own certificate does.")
