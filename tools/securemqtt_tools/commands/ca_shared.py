"""`securemqtt ca device --shared`: one certificate for several devices, and a password for each."""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import partial
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.broker import devices
from securemqtt_tools.broker.config import PASSWORDS, SETTINGS, BrokerConfig
from securemqtt_tools.broker.kinds import CERTIFICATE_ALONE, MOSQUITTO
from securemqtt_tools.broker.networks import parse_network
from securemqtt_tools.broker.passwords import read_hashes, set_password
from securemqtt_tools.broker.process import engine_of
from securemqtt_tools.broker.rules import Rules, check_group
from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.commands.broker_common import directory_of
from securemqtt_tools.commands.broker_rules import (
    change_rules,
    check_no_device,
    check_no_group,
    hand_on,
    rules_of,
)
from securemqtt_tools.commands.ca_home import open_authority
from securemqtt_tools.commands.ca_issuing import (
    default_output,
    issue,
    join_and_bind,
    say_still_good,
)
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.entry import ISSUED, REVOKED
from securemqtt_tools.pki.files import make_directory, write_file
from securemqtt_tools.pki.issued import Issued
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.profiles import DEVICE, SHARED

_SUFFIX = ".password"
_LOST = (
    "What is lost by sharing: whoever steals the one key has that of all of them, and then only a "
    "password keeps him out. A device that is taken out keeps the certificate: securemqtt broker "
    "password ID --remove stops it, and nothing else does. Revoking the certificate puts out all "
    "of them. No log can prove which of them it was."
)
_UNBOUND = (
    "Mosquitto does not hold the user name to the certificate: with any certificate of the "
    "authority whoever has the password of one of them is that one. The embedded broker does."
)


def share(args: argparse.Namespace) -> None:
    """Issue it, unless there is a good one; nothing where one of the devices cannot share it."""
    authority, group = open_authority(args), check_group(args.shared)
    ids = list(dict.fromkeys(map(check_device_id, args.ids)))
    config = _broker(args, ids)
    before = rules_of(args)
    _check(args, authority, before, group, ids)
    networks = list(map(parse_network, args.networks))
    directory = args.out or default_output(args, SHARED, group)
    hashes = directory / PASSWORDS if config is None else config.directory / PASSWORDS
    known = read_hashes(hashes) if hashes.exists() else {}
    new = [one for one in ids if one not in known or not before.shares(one, group)]
    files = {one: directory / f"{one}{_SUFFIX}" for one in new}
    for file in files.values():
        if args.out and file.exists():
            raise FatalError(f"{file} exists and was left as it is: choose another directory")
    good = [
        one
        for one in authority.inventory.entries(SHARED, group)
        if one.state_at(authority.now) == ISSUED
    ]
    if good and not args.renew:
        end = f"{good[-1].not_after:%Y-%m-%d}"
        print(f"Group {group} has a certificate to share until {end}, serial {good[-1].serial}.")
    else:
        issue(args, authority, {group: lambda: _issued(args, authority, group)}, SHARED)
        say_still_good(authority, group)
    # Before they share: else a second try would find them sharing, and leave old passwords good.
    _make_passwords(files, directory, hashes)
    change_rules(args, authority, lambda now: now.with_shared(group, ids))
    if config is not None:
        devices.hand_over(authority, config.directory)  # who has one of its own comes by no other
    print(f"Share it, in group {group}, with a password each: {', '.join(ids)}.")
    for file in files.values():
        print(f"  {escaped(str(file))}")
    for one in ids:
        if one not in files:
            print(
                as_called(
                    f"{one} has a password already: securemqtt broker password {one} --out FILE "
                    f"makes another."
                )
            )
    print(
        "Each gives its id as user name and as client id, and its password: "
        "docs/shared-certificates.md."
    )
    join_and_bind(args, authority, ids, networks)
    print(as_called(_LOST))
    if config is None:
        print(
            as_called(
                f"The broker elsewhere has to ask for passwords (securemqtt broker init "
                f"--passwords), and needs the lines of {escaped(str(hashes))} in its own file "
                f"{PASSWORDS}."
            )
        )
    else:
        with suppress(FatalError):  # it is not installed here
            if engine_of(config).name == MOSQUITTO:
                print(_UNBOUND)
    hand_on(args)


def _issued(args: argparse.Namespace, authority: Authority, group: str) -> Issued:
    return authority.issue_shared(group, days=args.days, key_type=args.key_type, renew=args.renew)


def _broker(args: argparse.Namespace, ids: list[str]) -> BrokerConfig | None:
    """Return the settings of this home's broker, if there is one. Raise FatalError where nobody
    could come in by a shared certificate.
    """
    if not (directory_of(args) / SETTINGS).exists():
        return None
    config = BrokerConfig.open(directory_of(args))
    if config.engine in CERTIFICATE_ALONE:
        raise FatalError(
            f"{config.engine} goes by the certificate alone, so one certificate is one device: "
            f"give each its own, securemqtt ca device {' '.join(ids)}"
        )
    if not config.passwords:
        raise FatalError(
            "this broker asks for no passwords, by which devices that share a certificate are told "
            "apart: run securemqtt broker init --force --passwords first"
        )
    return config


def _check(
    args: argparse.Namespace, authority: Authority, rules: Rules, group: str, ids: list[str]
) -> None:
    """Raise FatalError where one of the ids cannot share the certificate of a group."""
    check_no_device(authority, group)
    check_no_group(authority, rules, ids)
    if group in ids:
        raise FatalError(f"{group} is the name of the group: choose another id")
    for one in args.groups:
        check_group(one)
        check_no_device(authority, one, ids)
    for one in ids:
        authority.inventory.check_name(DEVICE, one)
        others = [other for other in rules.sharing(one) if other != group]
        if others:
            raise FatalError(
                f"{one} shares the certificate of {others[0]}: take it out of that group first, "
                f"securemqtt broker group {others[0]} --remove {one}"
            )
        own = authority.inventory.entries(DEVICE, one)
        if any(each.state != REVOKED and each.not_after > authority.now for each in own):
            raise FatalError(
                f"{one} has a certificate of its own, which is the better one to have: leave {one} "
                f"out, or take it from it first, securemqtt ca revoke {one}"
            )


def _make_passwords(files: dict[str, Path], directory: Path, hashes: Path) -> None:
    make_directory(directory)
    if not hashes.exists():
        write_file(hashes, b"")
    for identity, file in files.items():
        set_password(hashes, identity, partial(_keep, file))


def _keep(file: Path, password: str) -> None:
    write_file(file, password.encode())
