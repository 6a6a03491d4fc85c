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

from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.pki import layout, report
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.deliver import deliver, prepare
from securemqtt_tools.pki.entry import ISSUED
from securemqtt_tools.pki.files import READABLE, explained
from securemqtt_tools.pki.health import warnings
from securemqtt_tools.pki.issued import Issued, certificate_pem
from securemqtt_tools.pki.names import check_device_id, name_text, server_names
from securemqtt_tools.pki.passphrase import new_passphrase, passphrase_source
from securemqtt_tools.pki.profiles import DEVICE, ROLES, SERVER

CRL = "crl.pem"
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
    print(as_called(f"Keep a backup of {directory}. Next: securemqtt broker init NAME…"))


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
    _warn(authority)


def renew(args: argparse.Namespace) -> None:
    """Issue anew for the same subject and names."""
    authority = _open(args)
    latest = authority.find(args.subject, args.role)[-1]
    passphrase = _key_passphrase(args)
    directory = args.out or _default_output(args, latest.role, latest.subject)
    prepare(directory, latest.role, replacing=True)
    issued = authority.renew(
        latest.subject, role=latest.role, days=args.days, revoke_old=args.revoke_old
    )
    _say_issued(authority, issued, deliver(authority, issued, directory, args.der, passphrase))
    if args.revoke_old:
        _publish_crl(args, authority)
    _warn(authority)


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


def revoke(args: argparse.Namespace) -> None:
    """Revoke certificates and write the new CRL."""
    authority = _open(args)
    authority.find(args.subject, args.role)
    authority.unlock()  # no key, no CRL: then nothing shall be recorded as revoked either
    for entry in authority.revoke(args.subject, reason=args.reason, role=args.role):
        print(f"Revoked {entry.role} {entry.subject}, serial {entry.serial}.")
    _publish_crl(args, authority)
    _warn(authority)


def crl(args: argparse.Namespace) -> None:
    """Sign a new CRL."""
    authority = _open(args)
    authority.crl_pem(days=args.days)
    _write_crl(args, authority)
    if args.out:
        authority.write_crl(args.out, READABLE)
        print(f"Written to {args.out} as well.")
    _warn(authority)


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
        console.print(report.narrowed(report.entries_table(entries, now), console))
    else:
        print("No certificate to show.")
    _warn(authority)


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
        facts = report.authority_object(authority, warnings(authority))
        if args.json:
            print(json.dumps(facts, indent=2))
        else:
            _console().print(report.authority_table(facts))
    _warn(authority)


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
    _warn(authority)


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
    print("A broker refuses what is listed from its next reload on.")


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
    print(f"Issued to {issued.role} {issued.subject} until {end:%Y-%m-%d}, serial {issued.serial}:")
    for file in files:
        print(f"  {file}")
    if end == authority.issuing_certificate.not_valid_after_utc:
        print("It ends this early because the authority's own certificate does.")


def _warn(authority: Authority) -> None:
    for line in warnings(authority):
        print(f"securemqtt: warning: {as_called(line)}", file=sys.stderr)


def _open(args: argparse.Namespace) -> Authority:
    return Authority.open(
        _directory(args), passphrase_source(getattr(args, "passphrase_file", None))
    )


def _directory(args: argparse.Namespace) -> Path:
    directory: Path = args.home / "ca"
    return directory


def _default_output(args: argparse.Namespace, role: str, subject: str) -> Path:
    return _directory(args) / "issued" / f"{role}s" / subject


def _progress() -> Console:
    """Return a console for progress, which is shown to people at a terminal only."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())


def _console() -> Console:
    """Return a console for tables; into a pipe or a file they are as wide as they need to be."""
    return Console() if sys.stdout.isatty() else Console(width=200)
