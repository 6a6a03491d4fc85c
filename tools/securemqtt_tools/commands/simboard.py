"""Run a simulated board: a real MicroPython behind a serial port, to try everything before you buy
one.

`run` prints the path of the serial port and then is a board until Ctrl-C: mpremote, `securemqtt
provision` and any terminal program can use the port. The other actions work on a board that is
running.
"""

from __future__ import annotations

import argparse
import os
import stat
import tempfile
from pathlib import Path

from securemqtt_tools.cli import FatalError, HelpFormatter, add_home_option
from securemqtt_tools.profiles import load_profile
from securemqtt_tools.simboard.board import BoardOptions
from securemqtt_tools.simboard.control import ControlClient
from securemqtt_tools.simboard.program import check_machine, run_simulator

_EXAMPLES = """\
Examples:
  securemqtt simboard run              the port is printed; Ctrl-C ends the board
  securemqtt simboard run --profile pico_w --link /tmp/pico
  mpremote connect /tmp/pico ls        in another terminal
  securemqtt simboard wifi off         the board's network goes silent
  securemqtt simboard reset
  securemqtt simboard power-cut; securemqtt simboard power-on
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    parser.epilog = _EXAMPLES
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _configure_run(
        actions.add_parser(
            "run", help="start a board", epilog=_EXAMPLES, formatter_class=parser.formatter_class
        )
    )
    wifi = _add_action(actions, "wifi", "switch the access point off or on")
    wifi.add_argument("state", choices=("on", "off"))
    wifi.set_defaults(action=lambda client, args: client.ask("wifi", on=args.state == "on"))
    for name, help_text in (
        ("reset", "reset the board, as its button does"),
        ("power-cut", "take the power at once"),
        ("power-on", "give the power back"),
        ("stop", "end the simulator"),
    ):
        verb = name.replace("-", "_")
        _add_action(actions, name, help_text).set_defaults(
            action=lambda client, args, verb=verb: client.ask(verb)
        )
    _add_action(
        actions, "status", "show port, power, Wi-Fi and what the flash has gone through"
    ).set_defaults(action=_print_status)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; return the exit status."""
    if "action" in args:
        args.action(ControlClient(_control_path(args.name)), args)
        return 0
    check_machine()
    image: Path = args.image or args.home / "simboard" / f"{args.profile}.img"
    options = BoardOptions(
        profile=load_profile(args.profile),
        image=image,
        link=args.link,
        ssid=args.ssid,
        wifi_password=_wifi_password(args),
        hosts=dict(args.host),
        own_prompt=args.own_prompt,
    )
    image.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_simulator(options, args.control or _control_path(args.name), args.with_parent)
    return 0


def _configure_run(parser: argparse.ArgumentParser) -> None:
    add_home_option(parser)
    parser.add_argument(
        "--profile", default="simulated", help="the kind of board to pose as (default: simulated)"
    )
    parser.add_argument(
        "--image",
        type=Path,
        help="the flash's content (default: HOME/simboard/PROFILE.img); made if absent",
    )
    parser.add_argument(
        "--link", type=Path, metavar="PATH", help="keep a symbolic link to the serial port there"
    )
    parser.add_argument(
        "--ssid", help="name of the only Wi-Fi network in range (default: any name will do)"
    )
    parser.add_argument(
        "--wifi-password-file",
        type=Path,
        metavar="FILE",
        help="its password is in FILE, which only you may read (-: standard input; default: any "
        "password will do)",
    )
    parser.add_argument(
        "--host",
        type=_host,
        action="append",
        default=[],
        metavar="NAME=ADDRESS",
        help="a name that the board resolves to this address, such as mqtt.local=127.0.0.1; may "
        "be repeated",
    )
    _add_name(parser)
    parser.add_argument("--own-prompt", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--control", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)


def _add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name, help=help_text, epilog=_EXAMPLES, formatter_class=HelpFormatter
    )
    _add_name(parser)
    return parser


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", default="simboard", help="which board, if several run (default: simboard)"
    )


def _wifi_password(args: argparse.Namespace) -> str | None:
    if args.wifi_password_file is None:
        return None
    # with it comes the authority, which a board does not need
    from securemqtt_tools.pki.passphrase import passphrase_source

    return passphrase_source(
        args.wifi_password_file, "Password of the Wi-Fi", "--wifi-password-file"
    )().decode()


def _host(text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=")
    if not (name and separator and address):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ADDRESS")
    return name, address


def _print_status(client: ControlClient, args: argparse.Namespace) -> None:
    status = client.ask("status")
    flash = status.pop("flash")
    for key, value in {**status, **flash}.items():
        print(f"{key:18} {value}")


def _control_path(name: str) -> Path:
    """Return the socket of the board `name`, in a directory that is this user's alone."""
    directory = (
        Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        / f"securemqtt-{os.getuid()}"
    )
    directory.mkdir(mode=0o700, exist_ok=True)
    there = directory.lstat()
    if (
        not stat.S_ISDIR(there.st_mode)
        or there.st_uid != os.getuid()
        or stat.S_IMODE(there.st_mode) & 0o077
    ):
        raise FatalError(f"{directory} is not a directory of yours alone; remove it")
    return directory / f"{name}.socket"
