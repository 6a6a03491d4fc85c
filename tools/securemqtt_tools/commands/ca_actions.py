"""What the subcommands of `securemqtt ca` do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import track

from securemqtt.platform import escaped
from securemqtt_tools.broker.privileges import become_holder
from securemqtt_tools.cli import FatalError, as_called, warn
from securemqtt_tools.pki import layout, recovery, report
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.deliver import deliver, prepare
from securemqtt_tools.pki.entry import ISSUED, Entry
from securemqtt_tools.pki.files import READABLE, explained
from securemqtt_tools.pki.health import warnings
from securemqtt_tools.pki.issued import Issued, certificate_pem
from securemqtt_tools.pki.names import check_device_id, name_text, server_names
from securemqtt_tools.pki.passphrase import new_passphrase, passphrase_source
from securemqtt_tools.pki.profiles import DEVICE, ROLES, SERVER

CRL = "crl.pem"
_SERVER = "server.pem"
_LARGEST_REQUEST = 64 * 1024


def init(args: argparse.Namespace) -> None:
    """Make the authority."""
    directory = _directory(args)
    layout.refuse_existing(directory)
    passphrase = None
    if not args.leave_keys_unencrypted:
        passphrase = new_passphrase(args.passphrase_file, "the certificate authority")
    with _progress().status("Making keys"):
        authority = Authority.create(
            directory,
            name=args.name,
            passphrase=passphrase,
            intermediate=args.intermediate,
            key_type=args.key_type,
        )
    _console().print(report.authority_table(report.authority_object(authority, [])))
    if passphrase is None:
        print("The keys are not encrypted: whoever reads them can make certificates.")
    if args.intermediate:
        print(f"Keep {directory / layout.ROOT_KEY} offline: only renew-intermediate needs it.")
    print(as_called(f"Keep a backup of {args.home}. Next: securemqtt broker init NAME…"))


def server(args: argparse.Namespace) -> None:
    """Issue a server's certificate."""
    authority = _open(args)
    subject = name_text(server_names(args.names)[0])
    _issue(
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
    authority = _open(args)

    def issuing(device_id: str) -> Callable[[], Issued]:
        return lambda: authority.issue_device(
            device_id, days=args.days, key_type=args.key_type, renew=args.renew
        )

    _issue(
        args,
        authority,
        {check_device_id(device_id): issuing(device_id) for device_id in args.ids},
        DEVICE,
    )


def sign(args: argparse.Namespace) -> None:
    """Sign a request."""
    authority = _open(args)
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
    directory = args.out or _default_output(args, issued.role, issued.subject)
    _say_issued(authority, issued, deliver(authority, issued, directory, args.der))
    _warn(args, authority)


def renew(args: argparse.Namespace) -> None:
    """Issue anew for the same subject and names."""
    authority = _open(args)
    latest = authority.find(args.subject, args.role)[-1]
    passphrase = _key_passphrase(args)
    before = authority.find(latest.subject, latest.role)
    if args.revoke_old:
        _check_crls(args, authority)
    directory = args.out or _default_output(args, latest.role, latest.subject)
    prepare(directory, latest.role, replacing=True)
    issued = authority.renew(
        latest.subject, role=latest.role, days=args.days, revoke_old=args.revoke_old
    )
    _say_issued(authority, issued, deliver(authority, issued, directory, args.der, passphrase))
    if args.revoke_old:
        _publish_crl(args, authority)
        _say_what_devices_know([one for one in before if one.not_after > authority.now])
    _warn(args, authority)


def renew_intermediate(args: argparse.Namespace) -> None:
    """Certify the intermediate's key anew."""
    authority = _open(args)
    source = passphrase_source(args.passphrase_file, "Passphrase of the root's key")
    certificate = layout.renew_intermediate(
        authority.directory, args.root_key, source, authority.now
    )
    print(f"The intermediate is valid until {certificate.not_valid_after_utc:%Y-%m-%d}.")
    print(
        as_called(
            "Brokers and devices get it with their next certificate: securemqtt ca renew NAME"
        )
    )


def replace_intermediate(args: argparse.Namespace) -> None:
    """Revoke the intermediate and make another."""
    authority = _open(args)
    source = passphrase_source(args.passphrase_file, "Passphrase of the root's key")
    certificate = layout.replace_intermediate(
        authority.directory, args.root_key, source, authority.now
    )
    print(f"There is a new intermediate, until {certificate.not_valid_after_utc:%Y-%m-%d}.")
    print(f"The old one is revoked, in {authority.directory / layout.ROOT_CRL}.")
    _publish_crl(args, _open(args))
    print(
        as_called(
            "Next: securemqtt broker reload, then provision every device again: until then brokers "
            "refuse it. Devices check no CRL: docs/certificates.md."
        )
    )


def revoke(args: argparse.Namespace) -> None:
    """Revoke certificates and write the new CRL."""
    authority = _open(args)
    authority.find(args.subject, args.role)
    _check_crls(args, authority)
    authority.unlock()  # no key, no CRL: then nothing shall be recorded as revoked either
    revoked = authority.revoke(args.subject, reason=args.reason, role=args.role)
    for entry in revoked:
        print(escaped(f"Revoked {entry.role} {entry.subject}, serial {entry.serial}."))
    _publish_crl(args, authority)
    _say_what_devices_know(revoked)
    _warn(args, authority)


def crl(args: argparse.Namespace) -> None:
    """Sign a new CRL."""
    authority = _open(args)
    _check_crls(args, authority, args.out)
    authority.crl_pem(days=args.days)
    _write_crl(args, authority)
    if args.out:
        authority.write_crl(args.out, READABLE)
        print(f"Written to {args.out} as well.")
    _warn(args, authority)


def recover(args: argparse.Namespace) -> None:
    """Have an inventory that comes from a backup learn what it has forgotten, and sign a CRL."""
    home: Path = args.home
    authority = _open(args)
    found = recovery.search(args.places, authority.issuing_certificate)
    become_holder(
        authority.directory
    )  # root may have been needed to read what is installed, and for no more
    places = (
        authority.directory / CRL,
        authority.directory / layout.ISSUED,
        home / "broker",
        home / "bundles",
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
        authority.crl_pem(above=done.number)
        _write_crl(args, authority)
    unknown, _ = authority.inventory.forgotten()
    if unknown:
        print(
            f"Revoked, and known by serial number only: {len(unknown)}. The CRL lists them, until "
            f"the authority ends."
        )
    _warn(args, authority)


def list_entries(args: argparse.Namespace) -> None:
    """List what was issued."""
    authority = _open(args)
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
        console = _console()
        for line in report.entries_lines(entries, now, console.width):
            console.print(line, soft_wrap=True)
    else:
        print("No certificate to show.")
    _warn(args, authority)


def show(args: argparse.Namespace) -> None:
    """Show a certificate's life, or the authority."""
    authority = _open(args)
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
        _console().print(*(report.entry_table(entry, authority.now) for entry in entries), sep="\n")
    else:
        facts = report.authority_object(authority, _warnings(args, authority))
        if args.json:
            print(json.dumps(facts, indent=2))
        else:
            _console().print(report.authority_table(facts))
    _warn(args, authority)


def _issue(
    args: argparse.Namespace,
    authority: Authority,
    issuing: dict[str, Callable[[], Issued]],
    role: str,
) -> None:
    """Check everything first, then issue to each subject and write its files."""
    directories = {subject: args.out or _default_output(args, role, subject) for subject in issuing}
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
            issuing.items(), "Issuing", console=_progress(), transient=True
        ):
            issued = issue()
            done.append(
                (issued, deliver(authority, issued, directories[subject], args.der, passphrase))
            )
    finally:
        for issued, files in done:
            _say_issued(authority, issued, files)
    _warn(args, authority)


def _publish_crl(args: argparse.Namespace, authority: Authority) -> None:
    authority.crl_pem()
    _write_crl(args, authority)


def _write_crl(args: argparse.Namespace, authority: Authority) -> None:
    """Write the newest CRL to its place, and to the broker of the same home."""
    newest = authority.write_crl(authority.directory / CRL)
    print(
        f"CRL {newest.number}, valid until {newest.next_update:%Y-%m-%d}: "
        f"{authority.directory / CRL}"
    )
    broker: Path = args.home / "broker" / CRL
    if broker.exists():
        authority.write_crl(broker)
        print(f"Given to the broker as well: {broker}")
    print("A broker refuses devices that are listed from its next reload on.")


def _say_what_devices_know(revoked: list[Entry]) -> None:
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


def _key_passphrase(args: argparse.Namespace) -> bytes | None:
    if args.key_passphrase_file and args.key_passphrase_file == args.passphrase_file:
        raise FatalError(
            "--key-passphrase-file and --passphrase-file are the same: give the key a passphrase "
            "of its own"
        )
    if args.key_passphrase_file or args.encrypt_key:
        return new_passphrase(args.key_passphrase_file, "the private key")
    return None


def _say_issued(authority: Authority, issued: Issued, files: list[Path]) -> None:
    end = issued.certificate.not_valid_after_utc
    whom = escaped(f"{issued.role} {issued.subject}")
    print(f"Issued to {whom} until {end:%Y-%m-%d}, serial {issued.serial}:")
    for file in files:
        print(f"  {escaped(str(file))}")
    if end == authority.issuing_certificate.not_valid_after_utc:
        print("It ends this early because the authority's own certificate does.")


def _warn(args: argparse.Namespace, authority: Authority) -> None:
    for line in _warnings(args, authority):
        warn(line)


def _warnings(args: argparse.Namespace, authority: Authority) -> list[str]:
    broker: Path = args.home / "broker"
    return warnings(authority, (authority.directory / CRL, broker / CRL, broker / _SERVER))


def _check_crls(args: argparse.Namespace, authority: Authority, other: Path | None = None) -> None:
    """Raise FatalError, before anything is changed, when a CRL that is to be replaced says what the
    inventory does not know.
    """
    for path in (args.home / "broker" / CRL, other, authority.directory / CRL):
        if path is not None:
            authority.check_knows(path)


def _open(args: argparse.Namespace) -> Authority:
    return Authority.open(
        _directory(args), passphrase_source(getattr(args, "passphrase_file", None))
    )


def _directory(args: argparse.Namespace) -> Path:
    directory: Path = args.home / "ca"
    return directory


def _default_output(args: argparse.Namespace, role: str, subject: str) -> Path:
    return _directory(args) / layout.ISSUED / f"{role}s" / subject


def _progress() -> Console:
    """Return a console for progress, which is shown to people at a terminal only."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())


def _console() -> Console:
    """Return a console for tables; into a pipe or a file they are as wide as they need to be."""
    return Console() if sys.stdout.isatty() else Console(width=200)
