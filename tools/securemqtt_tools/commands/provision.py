"""Put certificates and the library on a board, or a bundle on a Raspberry Pi, and see that it
connects.

Examples:
  securemqtt provision pico_w --id greenhouse-1 --broker mqtt.local --wifi Farm
  securemqtt provision esp32_c3 --port /dev/ttyUSB0 --id pump-2 --broker 192.168.1.5:8883 --dry-run
  securemqtt provision pico_w --id greenhouse-1 --broker mqtt.local --main my_sensor.py
  securemqtt provision pi --out ~/.config/securemqtt --id hub --broker mqtt.local
  securemqtt provision pi --ssh pi@hub.local --id hub --broker mqtt.local
  securemqtt provision pico_w --broker mqtt.example.org --wifi Farm \
      --ca ca.crt --certificate greenhouse.crt --key greenhouse.key --prefix home/greenhouse
  securemqtt provision pi --ssh pi@lamp.local --id lamp-1 --broker mqtt.local --ca ca.crt \
      --certificate shared.crt --key shared.key --password-file lamp-1.password
  securemqtt provision selftest /dev/ttyACM0      what does the library do on this very board?

A second run changes only what differs; one that was cut short is finished by running it again.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from securemqtt.bundle import find as find_bundle
from securemqtt.errors import BundleNotFound
from securemqtt_tools.broker.rules import check_group
from securemqtt_tools.cli import (
    FatalError,
    as_called,
    warn,
)
from securemqtt_tools.commands import provision_options
from securemqtt_tools.commands.broker_rules import (
    check_no_device,
    check_no_group,
    hand_on,
    join,
    rules_of,
)
from securemqtt_tools.commands.broker_sharing import heed_rules, leave_shared
from securemqtt_tools.commands.provision_files import (
    imported_of,
    is_foreign,
    password_of,
    remarks_on,
)
from securemqtt_tools.home import Home
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.foreign import read_certificates
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.passphrase import (
    new_passphrase,
    passphrase_source,
)
from securemqtt_tools.profiles import load_profile
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.board.provisioning import provision_board
from securemqtt_tools.provision.bundle import Settings
from securemqtt_tools.provision.destination import find_destination, rules_for
from securemqtt_tools.provision.identity import Source
from securemqtt_tools.provision.pi.places import LocalDirectory, SshDirectory
from securemqtt_tools.provision.pi.provisioning import PiOrder, provision_pi
from securemqtt_tools.provision.steps import Steps

_SSID_BYTES = range(1, 33)
# IEEE 802.11i: a WPA passphrase; none at all is an open network
_WIFI_PASSWORD_BYTES = range(8, 64)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    provision_options.add(parser)


def run(args: argparse.Namespace) -> int:
    """Provision; 0 when the device is as it should be. Raise FatalError."""
    provision_options.check(args)
    is_pi = args.board == provision_options.PI
    imported = imported_of(args, is_pi)
    where = find_destination(args.broker, args.home, is_foreign(args, imported))
    home = Home(args.home)
    source = imported or Authority.open(
        home.ca, passphrase_source(args.passphrase_file), witnesses=home.witnesses
    )
    joining = []
    if isinstance(source, Authority):
        heed_rules(args, source)
        joining = _join_groups(args, source)  # first, since the bundle says what it may do
    config = where.config
    device_id = imported.device_id if imported else check_device_id(args.id)
    remarks = remarks_on(args, imported, where)
    roots = read_certificates(config.server_trust()) if config and config.is_public else ()
    settings = Settings(
        device_id=device_id,
        host=where.host,
        port=where.port,
        keep_alive_s=args.keep_alive,
        ntp_host=None if is_pi else args.ntp,
        rules=rules_for(device_id, config, args.keep_alive, args.prefix) if config else None,
        prefix=args.prefix,
        made_elsewhere=imported is not None,
        is_foreign=imported is not None and config is None,
        password=password_of(args),
    )
    if where.remark:
        warn(where.remark)
    steps = Steps(Console(highlight=False))
    for remark in remarks:
        steps.say(f"  {remark}")
    make_order = _pi_order if is_pi else _board_order
    order = replace(make_order(args, settings, source), roots=roots)
    if isinstance(order, Order):
        order = replace(order, broker_names=where.names)
    changed = (
        provision_pi(order, steps) if isinstance(order, PiOrder) else provision_board(order, steps)
    )
    if args.dry_run:
        for group in joining:
            steps.say(f"It would join group {group}.")
        is_as_wanted = not (changed or joining)
        steps.say(
            "There is nothing to change." if is_as_wanted else "Dry run: nothing was changed."
        )
    else:
        outcome = "ready" if changed else "up to date: there was nothing to change"
        steps.say(f"{settings.device_id} is {outcome}.")
        if isinstance(source, Authority):
            # Where nothing was issued, too: an earlier run may have ended before that.
            leave_shared(args, source, [settings.device_id])
            if joining:
                hand_on(args)
        if is_pi:
            steps.say(as_called(_what_to_try(args)))
    return 0


def _join_groups(args: argparse.Namespace, authority: Authority) -> list[str]:
    """Have the device join the groups that were asked for, but at a dry run; return those that are
    new to it. Raise FatalError.
    """
    device_id, rules = check_device_id(args.id), rules_of(args)
    check_no_group(authority, rules, [device_id])
    groups = rules.groups
    for one in args.groups:
        check_group(one)
        check_no_device(authority, one, [device_id])
    new = [one for one in dict.fromkeys(args.groups) if device_id not in groups.get(one, ())]
    for one in new:
        if not args.dry_run:
            join(args, authority, one, [device_id])
            print(f"In group {one}: {device_id}.")
    return new


def _what_to_try(args: argparse.Namespace) -> str:
    """Return what shows that a Pi reaches its broker, since nothing has tried it."""
    if args.ssh:
        return "Try it there: securemqtt pub '~/hello' hi"
    named = f" --bundle {shlex.quote(str(args.out))}"
    with suppress(BundleNotFound):
        if Path(find_bundle(None)).resolve() == args.out.expanduser().resolve():
            named = ""
    return f"Try it: securemqtt pub '~/hello' hi{named}"


def _board_order(args: argparse.Namespace, settings: Settings, authority: Source) -> Order:
    forced = {"boot.py": args.force_boot, "main.py": args.force_main or args.main}
    if args.main and not args.main.is_file():
        raise FatalError(f"there is no program {args.main}")
    return Order(
        profile=load_profile(args.board),
        settings=settings,
        authority=authority,
        cache=Home(args.home).cache,
        port=args.port,
        wifi=_wifi(args),
        main=args.main,
        programs=frozenset(name for name, wanted in forced.items() if wanted),
        certificate_days=args.certificate_days,
        renew=args.renew,
        dry_run=args.dry_run,
        connect=not args.no_connect,
        romfs=args.romfs,
    )


def _wifi(args: argparse.Namespace) -> Callable[[], bytes] | None:
    """Return what gives the content of wifi.json, and asks for the password if it has to."""
    if not args.wifi:
        return None
    if len(args.wifi.encode()) not in _SSID_BYTES:
        raise FatalError("a Wi-Fi's name (SSID) has 1 to 32 bytes")
    if args.wifi_password_file:
        content = _wifi_text(args)
        return lambda: content
    return lambda: _wifi_text(args)


def _wifi_text(args: argparse.Namespace) -> bytes:
    what = f"Password of the Wi-Fi {args.wifi} (empty: an open network)"
    password = passphrase_source(args.wifi_password_file, what, "--wifi-password-file")()
    if password and len(password) not in _WIFI_PASSWORD_BYTES:
        raise FatalError("a Wi-Fi password has 8 to 63 characters")
    return json.dumps({"ssid": args.wifi, "password": password.decode()}).encode()


def _pi_order(args: argparse.Namespace, settings: Settings, authority: Source) -> PiOrder:
    return PiOrder(
        settings=settings,
        authority=authority,
        place=SshDirectory(args.ssh) if args.ssh else LocalDirectory(args.out.expanduser()),
        key_passphrase=new_passphrase(args.key_passphrase_file, "the key", "--key-passphrase-file")
        if args.key_passphrase_file
        else None,
        certificate_days=args.certificate_days,
        renew=args.renew,
        dry_run=args.dry_run,
    )
