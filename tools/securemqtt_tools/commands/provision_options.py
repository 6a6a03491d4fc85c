"""What `securemqtt provision` may be asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from securemqtt.protocol.topics import problem
from securemqtt_tools import completion
from securemqtt_tools.cli import FatalError, add_home_option, directory, whole_number
from securemqtt_tools.pki.passphrase import add_passphrase_option
from securemqtt_tools.profiles import load_all
from securemqtt_tools.provision.destination import PORT

PI = "pi"
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


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    boards = [profile.key for profile in load_all() if profile.is_board]
    parser.add_argument(
        "board", choices=[*boards, PI], metavar="BOARD", help=f"{', '.join(boards)}, or {PI}"
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


def check(args: argparse.Namespace) -> None:
    """Raise FatalError for options that do not go together."""
    is_pi = args.board == PI
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
