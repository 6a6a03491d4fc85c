"""What `securemqtt broker install` does for Mosquitto; for others broker_service.py."""

from __future__ import annotations

import argparse
import shlex
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.health import warnings
from securemqtt_tools.broker.kinds import SMALL
from securemqtt_tools.broker.lock import is_held
from securemqtt_tools.broker.mosquitto.install import Installation
from securemqtt_tools.broker.mosquitto.live import Reload, Watching, losses_by_others
from securemqtt_tools.broker.mosquitto.program import find_mosquitto, shortcomings
from securemqtt_tools.broker.mosquitto.restart import reload_command, restart_command
from securemqtt_tools.broker.revocations import check_crl, check_installed
from securemqtt_tools.cli import FatalError, warn
from securemqtt_tools.commands import broker_service
from securemqtt_tools.commands.broker_common import (
    confirmed,
    directory_of,
    is_authority_here,
    say_shortcomings,
    where,
)
from securemqtt_tools.home import Home
from securemqtt_tools.output import OutputError
from securemqtt_tools.pki import Authority

EXAMPLES = (
    "install --dry-run",
    'install        (as root: sudo "$(which securemqtt)" broker install --home ~/.securemqtt)',
    "install --etc /usr/local/etc/mosquitto --restart 'rc-service mosquitto restart' \\\n"
    "      --reload 'rc-service mosquitto reload'",
)
DETAILS = """

Shows what would change, tries it out with the real Mosquitto, asks, and writes it. Mosquitto is
then restarted and has to answer; if it does not, the previous configuration is put back. Run it
again after reload.

Where only rules, passwords, revocations or the broker's certificate have changed, Mosquitto is
reloaded instead: who was revoked is put out at once, and all others stay connected. The command
then looks out for 100 s for one who had opened a connection before and logs in only after; Ctrl-C
ends that. It says beforehand which of both will happen.

What root installs belongs to root, and the user that Mosquitto runs as may read it and change
nothing. So whoever takes over Mosquitto cannot change its rules. Configuration that others than
root can change is refused.

HiveMQ and RabbitMQ (init --for) run from this home instead: systemd is given a unit that runs
broker run as the user whose home it is, at each boot, and may write there alone. Name HIVEMQ_HOME:
sudo HIVEMQ_HOME=/opt/hivemq …. To take it away: securemqtt service remove securemqtt-broker."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would change, and change nothing"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--etc",
        type=Path,
        default=Path("/etc/mosquitto"),
        metavar="DIR",
        help="default: /etc/mosquitto",
    )
    parser.add_argument(
        "--restart",
        metavar="COMMAND",
        help="what restarts Mosquitto (default: systemctl or service)",
    )
    parser.add_argument(
        "--reload",
        metavar="COMMAND",
        help="what has Mosquitto read its files anew, by SIGHUP (default: systemctl or service; "
        "none with --restart)",
    )


def install(args: argparse.Namespace) -> int:
    """Put the broker into the system's Mosquitto."""
    config = BrokerConfig.open(directory_of(args))
    check_crl(config.directory)
    if config.engine not in SMALL:
        return broker_service.install(args, config)
    program = find_mosquitto()
    if program is None:
        raise FatalError("Mosquitto is not installed: apt-get install mosquitto")
    for warning in warnings(config, datetime.now(timezone.utc), only_crl_counts=True):
        warn(warning)
    say_shortcomings([*shortcomings(config, program), *losses_by_others(config, program)])
    installation = Installation(config, program, args.etc)
    if is_authority_here(args):
        home = Home(args.home)
        Authority.open(home.ca, witnesses=home.witnesses).check_knows(installation.crl)
    check_installed(installation.crl, config.directory)
    for listener in installation.listeners_in_clear():
        warn(f"Mosquitto also listens without TLS, which is not ours to change: {listener}")
    description = installation.describe()
    if not description:
        print("Nothing would change: it is installed as it is.")
        return 0
    print("\n".join(description))
    with Console(stderr=True).status("Trying it out with Mosquitto"):
        installation.try_out()
    reload = installation.reload(_reload(args))
    print(_prospect(reload, config))
    if args.dry_run:
        print("Nothing was changed.")
        return 0
    if is_held(config.directory):
        raise FatalError(
            f"broker run of {config.directory} runs, on the ports that Mosquitto is to have: end "
            f"it first (Ctrl-C where it runs), and run this again; nothing was changed"
        )
    restart = shlex.split(args.restart) if args.restart else restart_command()
    command = reload.command if isinstance(reload, Reload) else restart
    if not args.yes and not confirmed(f"Write this and run {shlex.join(command)}?"):
        print("Nothing was changed.")
        return 1
    watching = installation.apply(restart, reload if isinstance(reload, Reload) else None, warn)
    with suppress(OutputError):  # there is something to be done yet; it is raised again at the end
        print(f"Mosquitto is running with it: {where(config)}.", flush=True)
    if watching is not None:
        _watch(installation, watching, restart)
    return 0


def _reload(args: argparse.Namespace) -> list[str] | None:
    if args.reload:
        return shlex.split(args.reload)
    # Where Mosquitto is restarted by other means than ours, ours would not reload it either.
    return None if args.restart else reload_command()


def _prospect(reload: Reload | str, config: BrokerConfig) -> str:
    if isinstance(reload, str):
        return f"Mosquitto is to be restarted, so that all connect anew: {reload}."
    but = f", except who was revoked: {', '.join(sorted(reload.gone))}" if reload.gone else ""
    anew = sorted(reload.connecting_anew(config))
    again = (
        f"; {', '.join(anew)} may have to connect anew, since its log was rotated" if anew else ""
    )
    return f"Mosquitto is to be reloaded: all stay connected{but}{again}."


def _watch(installation: Installation, watching: Watching, restart: list[str]) -> None:
    """Keep out who was revoked, until nobody can come in any more."""
    try:
        with suppress(OutputError):
            print(
                f"Who was revoked is out. For {watching.left_s:.0f} s more, whoever of them had "
                f"opened a connection before and logs in only now is put out, too. Ctrl-C ends "
                f"this.",
                flush=True,
            )
        with Console(stderr=True).status("Looking out for who was revoked"):
            may_trickle = watching.run()
    except FatalError as error:
        warn(f"{error}: Mosquitto is restarted, and all connect anew")
        installation.restart(restart)
        may_trickle = False
    except KeyboardInterrupt:
        warn(
            f"whoever was revoked and had opened a connection before may log in for "
            f"{watching.left_s:.0f} s more, and stay; to be sure, run {shlex.join(restart)}"
        )
        raise
    print(
        f"Nobody of them can come in any more, but who sends his login bit by bit: to rule that "
        f"out, too, run {shlex.join(restart)}."
        if may_trickle
        else "Nobody of them can come in any more."
    )
