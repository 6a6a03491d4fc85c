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
from securemqtt.protocol.topics import problem
from securemqtt_tools import completion
from securemqtt_tools.broker.config import CA
from securemqtt_tools.broker.rules import check_group
from securemqtt_tools.cli import (
    FatalError,
    add_home_option,
    as_called,
    directory,
    warn,
    whole_number,
)
from securemqtt_tools.commands.broker_rules import (
    check_no_device,
    hand_on,
    join,
    rules_of,
)
from securemqtt_tools.commands.broker_sharing import heed_rules, leave_shared
from securemqtt_tools.home import Home
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.foreign import read_certificates
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.passphrase import (
    add_passphrase_option,
    new_passphrase,
    passphrase_source,
)
from securemqtt_tools.profiles import load_all, load_profile
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.board.provisioning import provision_board
from securemqtt_tools.provision.bundle import Settings
from securemqtt_tools.provision.destination import PORT, find_destination, rules_for
from securemqtt_tools.provision.identity import Source
from securemqtt_tools.provision.imported import Imported, read_imported
from securemqtt_tools.provision.pi.places import LocalDirectory, SshDirectory
from securemqtt_tools.provision.pi.provisioning import PiOrder, provision_pi
from securemqtt_tools.provision.sharing import check_sharing
from securemqtt_tools.provision.steps import Steps

_PI = "pi"
_SSID_BYTES = range(1, 33)
# IEEE 802.11i: a WPA passphrase; none at all is an open network
_WIFI_PASSWORD_BYTES = range(8, 64)
_BOARD_ONLY = (
    "port",
    "wifi",
    "wifi_password_file",
    "main",
    "force_boot",
    "force_main",
    "no_connect",
    "romfs",
)
_PI_ONLY = ("out", "ssh", "key_passphrase_file")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    boards = [profile.key for profile in load_all() if profile.is_board]
    parser.add_argument(
        "board", choices=[*boards, _PI], metavar="BOARD", help=f"{', '.join(boards)}, or {_PI}"
    )
    identity = parser.add_argument(
        "--id",
        help="the device's id: 1 to 64 of A-Z a-z 0-9 _ - (with --certificate also others; default "
        "there: its common name)",
    )
    completion.completed(identity, completion.ids)
    parser.add_argument(
        "--broker",
        required=True,
        metavar="HOST[:PORT]",
        help=f"as in its certificate, or mqtts://HOST[:PORT]; port: your own broker's, else {PORT}",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would change, and change nothing"
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="issue a new certificate, also if the device, or another, has a good one",
    )
    parser.add_argument(
        "--certificate-days",
        type=whole_number(1, 36500, "days"),
        metavar="DAYS",
        help="validity (default: five years)",
    )
    parser.add_argument(
        "--keep-alive",
        type=whole_number(5, 65535, "s"),
        metavar="S",
        help="MQTT keep-alive in seconds (default: 60)",
    )
    parser.add_argument(
        "--prefix",
        metavar="TOPIC",
        help="what ~ stands for at this broker (default: devices/ID)",
    )
    group = parser.add_argument(
        "--group",
        action="append",
        default=[],
        dest="groups",
        metavar="GROUP",
        help="a group whose rules count for it (securemqtt broker rules); may be repeated",
    )
    completion.completed(group, completion.ids)
    add_home_option(parser)
    add_passphrase_option(parser)
    made = parser.add_argument_group("files made elsewhere, with openssl say (nothing is issued)")
    made.add_argument(
        "--ca",
        type=Path,
        action="append",
        metavar="FILE",
        help="the CA that issued the broker's certificate, PEM or DER; may be given again",
    )
    made.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="the device's certificate, PEM or DER; in PEM with intermediates behind it",
    )
    made.add_argument(
        "--key", type=Path, metavar="FILE", help="its private key, which only you may read"
    )
    made.add_argument(
        "--key-password-file",
        type=Path,
        metavar="FILE",
        help="what opens an encrypted key (-: standard input); default: ask",
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="the device's password at a broker that asks for one, beside its id as user name "
        "(-: standard input)",
    )
    board = parser.add_argument_group("a board")
    board.add_argument("--port", help="its serial port (default: the one board found on USB)")
    board.add_argument("--wifi", metavar="SSID", help="the Wi-Fi to join; asks for its password")
    board.add_argument(
        "--wifi-password-file",
        type=Path,
        metavar="FILE",
        help="read it from FILE, which only you may read",
    )
    board.add_argument(
        "--ntp", default="pool.ntp.org", metavar="HOST", help="time server (default: pool.ntp.org)"
    )
    board.add_argument(
        "--main",
        type=Path,
        metavar="FILE",
        help="your program, as main.py; if it dies there at once, the one before comes back",
    )
    board.add_argument(
        "--force-boot", action="store_true", help="replace a boot.py that is not ours"
    )
    board.add_argument(
        "--force-main", action="store_true", help="replace a main.py that is not ours"
    )
    board.add_argument(
        "--no-connect", action="store_true", help="do not have the board connect to the broker"
    )
    board.add_argument(
        "--romfs",
        action="store_true",
        help="put the library into the ROMFS of the board's firmware, where it takes less heap",
    )
    pi = parser.add_argument_group("a Raspberry Pi")
    place = pi.add_mutually_exclusive_group()
    place.add_argument(
        "--out",
        type=directory,
        metavar="DIR",
        help="put the bundle into a directory of this machine",
    )
    place.add_argument(
        "--ssh", metavar="USER@HOST", help="put it into ~/.config/securemqtt there, with ssh"
    )
    pi.add_argument(
        "--key-passphrase-file",
        type=Path,
        metavar="FILE",
        help="encrypt the private key with the passphrase in FILE",
    )


def run(args: argparse.Namespace) -> int:
    """Provision; 0 when the device is as it should be. Raise FatalError."""
    _check_options(args)
    is_pi = args.board == _PI
    imported = _imported(args, is_pi)
    where = find_destination(args.broker, args.home, _is_foreign(args, imported))
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
    remarks = list(imported.remarks) if imported else []
    if config and imported and imported.shared_by is not None:
        has_password = args.password_file is not None
        rules = rules_of(args)
        remarks += check_sharing(device_id, imported.shared_by, config, rules, has_password)
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
        password=_password(args),
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
            leave_shared(args, source, [settings.device_id])
            if joining:
                hand_on(args)
        if is_pi:
            steps.say(as_called(_what_to_try(args)))
    return 0


def _is_foreign(args: argparse.Namespace, imported: Imported | None) -> bool:
    """Return True for files of another authority than that of this home's broker: a certificate
    that devices share, say, is our own. Raise FatalError.
    """
    trust = Home(args.home).broker / CA
    return imported is not None and not (trust.exists() and imported.is_of(trust))


def _join_groups(args: argparse.Namespace, authority: Authority) -> list[str]:
    """Have the device join the groups that were asked for, but at a dry run; return those that are
    new to it. Raise FatalError.
    """
    device_id, groups = check_device_id(args.id), rules_of(args).groups
    for one in args.groups:
        check_group(one)
        check_no_device(authority, one)
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


def _imported(args: argparse.Namespace, is_pi: bool) -> Imported | None:
    """Return the identity that was given in files; None if one is to be issued."""
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


def _password(args: argparse.Namespace) -> bytes | None:
    return None if args.password_file is None else passphrase_source(args.password_file)()


def _check_options(args: argparse.Namespace) -> None:
    is_pi = args.board == _PI
    for name in _BOARD_ONLY if is_pi else _PI_ONLY:
        if getattr(args, name):
            other = ": that of the broker goes with --broker HOST:PORT" if name == "port" else ""
            raise FatalError(
                f"--{name.replace('_', '-')} is for {'boards' if is_pi else 'a Raspberry Pi'} only"
                f"{other}"
            )
    if is_pi and not (args.out or args.ssh):
        raise FatalError("where should the Pi's bundle go? Give --out DIR or --ssh USER@HOST")
    _check_files(args)
    if args.prefix is not None and (args.prefix[-1:] == "/" or problem(args.prefix, False)):
        raise FatalError("--prefix must be a topic without + and #, its last character no /")
    if args.wifi_password_file and not args.wifi:
        raise FatalError("--wifi-password-file needs --wifi SSID")


def _check_files(args: argparse.Namespace) -> None:
    files = ("ca", "certificate", "key")
    given = [name for name in files if getattr(args, name)]
    if not given:
        if args.key_password_file:
            raise FatalError("--key-password-file is for --key FILE")
        if not args.id:
            raise FatalError("which device is it? Give --id ID")
        return
    missing = [f"--{name}" for name in files if name not in given]
    if missing:
        raise FatalError(
            f"files that were made elsewhere come as three, --ca, --certificate and --key: "
            f"{' and '.join(missing)} is missing"
        )
    for option, value in (("certificate-days", args.certificate_days), ("group", args.groups)):
        if value:
            raise FatalError(f"--{option} is for a certificate that is issued here")


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
