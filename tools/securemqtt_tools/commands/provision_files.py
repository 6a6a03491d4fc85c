"""The identity that `securemqtt provision` is given in files, with what opens them."""

from __future__ import annotations

import argparse

from securemqtt_tools.broker.config import CA
from securemqtt_tools.commands.broker_rules import rules_of
from securemqtt_tools.home import Home
from securemqtt_tools.pki.passphrase import passphrase_source
from securemqtt_tools.provision.destination import Destination
from securemqtt_tools.provision.imported import Imported, read_imported
from securemqtt_tools.provision.sharing import check_sharing


def imported_of(args: argparse.Namespace, is_pi: bool) -> Imported | None:
    """Return the identity that was given in files; None if one is to be issued. Raise
    FatalError.
    """
    if not args.certificate:
        return None
    return read_imported(
        args.ca,
        args.certificate,
        args.key,
        device_id=args.id,
        for_board=not is_pi,
        password=lambda: _key_password(args),
        has_login=args.password_file is not None,
    )


def _key_password(args: argparse.Namespace) -> bytes:
    what = f"Password of {args.key}"
    return passphrase_source(args.key_password_file, what, "--key-password-file")()


def password_of(args: argparse.Namespace) -> bytes | None:
    """Return the device's password, None where none was given. Raise FatalError."""
    return None if args.password_file is None else passphrase_source(args.password_file)()


def is_foreign(args: argparse.Namespace, imported: Imported | None) -> bool:
    """Return True for files of another authority than that of this home's broker: a certificate
    that devices share, say, is our own. Raise FatalError.
    """
    trust = Home(args.home).broker / CA
    return imported is not None and not (trust.exists() and imported.is_of(trust))


def remarks_on(
    args: argparse.Namespace, imported: Imported | None, where: Destination
) -> list[str]:
    """Return what a person should know of it. Raise FatalError where our own broker would refuse
    it.
    """
    if imported is None:
        return []
    remarks, group = list(imported.remarks), imported.shared_by
    if where.config and group is not None:
        has_password = args.password_file is not None
        device_id, rules = imported.device_id, rules_of(args)
        remarks += check_sharing(device_id, group, where.config, rules, has_password)
    return remarks
