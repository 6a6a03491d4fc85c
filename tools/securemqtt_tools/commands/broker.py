"""MQTT broker with mutual TLS: Mosquitto where it is installed, else an embedded one with the same
rules.

Every client shows a certificate of your authority; the id in it is its user name and its client id,
and it may read and write devices/<its id>/ and nothing else. Operators read every device and send
it commands.

Examples:
  securemqtt broker init mqtt.local 192.168.1.5   set it up, for the names that devices will use
  securemqtt broker run                           run it here, until Ctrl-C, or, in its place,
  sudo "$(which securemqtt)" broker install --home ~/.securemqtt     in the system's Mosquitto
  securemqtt broker grant controller operator     let it read all devices and send them commands
  securemqtt broker reload                        after a revocation
  securemqtt broker status                        does it run, and what runs out when?
  securemqtt broker check                         what does it look like from outside?
  securemqtt broker client-config me --for mosquitto     lines for other people's clients
"""

from __future__ import annotations

import argparse
from pathlib import Path

from securemqtt_tools import completion
from securemqtt_tools.broker.issuing import DAYS
from securemqtt_tools.broker.kinds import ENGINES
from securemqtt_tools.broker.rules import ROLES
from securemqtt_tools.cli import Subcommand, add_subcommands, whole_number
from securemqtt_tools.commands import broker_actions as actions
from securemqtt_tools.commands import (
    broker_audit,
    broker_clients,
    broker_init,
    broker_install,
    broker_network,
    broker_rules,
    broker_run,
    broker_status,
)
from securemqtt_tools.pki.passphrase import add_passphrase_option

PLAIN = "device"  # the role of who has none


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    add_subcommands(parser, "broker", _COMMANDS)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; 0 when all was well. Raise FatalError."""
    status: int = args.action(args)
    return status


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="default: as init --for says; auto is mosquitto where installed, else amqtt, the "
        "embedded one, for trying things out: what it keeps ends with it",
    )
    add_passphrase_option(parser)
    _add_issuer_passphrase(parser)


def _reload(parser: argparse.ArgumentParser) -> None:
    add_passphrase_option(parser)


def _issuer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days",
        type=whole_number(DAYS.start, DAYS.stop - 1, "days"),
        default=DAYS.stop - 1,
        help=f"how long the certificates live that it makes, {DAYS.start} to {DAYS.stop - 1} "
        f"(default: {DAYS.stop - 1})",
    )
    parser.add_argument(
        "--root-key", type=Path, metavar="FILE", help="the root's key, if it is kept elsewhere"
    )
    add_passphrase_option(parser)
    _add_issuer_passphrase(parser)


def _renew(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--now", action="store_true", help="also where less than a third of its life is over"
    )
    _add_issuer_passphrase(parser)


def _add_issuer_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--issuer-passphrase-file",
        type=Path,
        metavar="FILE",
        help="read the passphrase of the broker's issuing key from FILE, which only you may read "
        "(-: standard input)",
    )


def _grant(parser: argparse.ArgumentParser) -> None:
    identity = parser.add_argument("id", metavar="ID", help="the id in the certificate")
    completion.completed(identity, completion.ids)
    roles = "; ".join(f"{name} {role.summary}" for name, role in ROLES.items())
    parser.add_argument(
        "role", choices=[*ROLES, PLAIN], help=f"{roles}; {PLAIN} has its own prefix only"
    )


def _password(parser: argparse.ArgumentParser) -> None:
    identity = parser.add_argument(
        "id", metavar="ID", help="the id in the certificate; it is the user name too"
    )
    completion.completed(identity, completion.ids)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--out", type=Path, metavar="FILE", help="write the new password to FILE, owner-only"
    )
    where.add_argument(
        "--remove", action="store_true", help="take the password away: the id is then refused"
    )


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="where it runs (default: this host)")


_COMMANDS = (
    Subcommand(
        "init",
        "set up the broker: its certificate, rules and settings",
        broker_init.configure,
        broker_init.init,
        broker_init.EXAMPLES,
        broker_init.DETAILS,
    ),
    Subcommand(
        "run",
        "run the broker here, until Ctrl-C",
        _run,
        broker_run.run,
        ("run", "run --engine amqtt", "run --engine hivemq"),
        """

It needs no rights of root's. Started by root (sudo) in the directory of another user, it becomes
that user before it opens anything there.""",
    ),
    Subcommand(
        "status",
        "show whether it runs, who has which role, and what runs out when",
        broker_status.configure,
        broker_status.status,
        ("status",),
        """

Exit status 0 if something answers at its port, else 1. What answers there is looked at by broker
check.""",
    ),
    Subcommand(
        "audit-log",
        "say who came in, left, or was refused and why, by the broker's log",
        broker_audit.configure,
        broker_audit.audit_log,
        broker_audit.EXAMPLES,
        broker_audit.DETAILS,
    ),
    Subcommand(
        "reload",
        "renew the CRL and what is about to expire, and have the running broker take it up",
        _reload,
        actions.reload,
        ("reload",),
        """

Where the authority is on another computer, the files in HOME/broker are used as they are: copy
revoked.json, ca.websockets.pem and crl.pem (with an intermediate root-crl.pem, too) there from the
authority's HOME/ca first, together.""",
    ),
    Subcommand(
        "issuer",
        "give the broker an issuing key of its own, for short-lived certificates",
        _issuer,
        actions.issuer,
        ("issuer", "issuer --days 30 --root-key /media/usb/root.key"),
        """

Devices check no CRL, so whoever steals the broker's key passes for it until its certificate ends.
With an issuing key that is 30 to 90 days, not 825, and the broker's computer renews by itself, with
no key of the authority's. The issuing key is for this broker's names alone (computers hold it to
that, boards do not), and has a passphrase of its own.""",
    ),
    Subcommand(
        "renew",
        "renew the certificate by the issuing key, once a third of its life is over",
        _renew,
        actions.renew,
        (
            "renew --issuer-passphrase-file issuer-passphrase",
            "renew --now        (after a key was stolen)",
            "renew --now --issuer-passphrase-file -        (the passphrase from standard input: "
            "docs/certificates.md)",
        ),
        """

For every day: it does nothing while there is nothing to do. Where the broker is installed in the
system, broker install after it; docs/certificates.md has a timer for systemd.""",
    ),
    Subcommand(
        "grant",
        "give an id a role, or take it away",
        _grant,
        actions.grant,
        ("grant controller operator", "grant dashboard monitor", f"grant controller {PLAIN}"),
    ),
    Subcommand(
        "allow",
        "let a group of devices, or one id, read or write more than its own prefix",
        broker_rules.configure_allow,
        broker_rules.allow,
        ("allow greenhouse read 'weather/#'", "allow hub write alarm lamp/on"),
        """

The rules lie beside the inventory, and each broker gets them in its own form at its next reload, or
at once where it runs in this home. Connections stand.""",
    ),
    Subcommand(
        "deny",
        "keep a group, or an id, from reading and writing what else would be allowed",
        broker_rules.configure_deny,
        broker_rules.deny,
        ("deny greenhouse 'weather/raw/#'",),
        """

What is denied is so for both, and also where a role or the own prefix allows it. To take a rule
back: securemqtt broker rules --remove N.""",
    ),
    Subcommand(
        "group",
        "have ids join a group of devices, or leave it",
        broker_rules.configure_group,
        broker_rules.group,
        ("group greenhouse greenhouse-1 greenhouse-2", "group greenhouse --remove greenhouse-2"),
    ),
    Subcommand(
        "network",
        "say which networks a group, or an id, has to come from",
        broker_network.configure,
        broker_network.network,
        broker_network.EXAMPLES,
        broker_network.DETAILS,
    ),
    Subcommand(
        "rules",
        "show the rules and the groups, or take rules away",
        broker_rules.configure_rules,
        broker_rules.rules,
        ("rules", "rules --remove 3", "rules --json"),
    ),
    Subcommand(
        "who-may",
        "say who may read or write a topic, and by which rule",
        broker_rules.configure_who_may,
        broker_rules.who_may,
        ("who-may weather/now", "who-may 'devices/#'", "who-may alarm greenhouse-1"),
        """

Exit status 0 if somebody may, or the one that was asked for, else 1.""",
    ),
    Subcommand(
        "password",
        "make a password for an id",
        _password,
        actions.password,
        ("password greenhouse-1 --out greenhouse-1.password", "password greenhouse-1 --remove"),
    ),
    Subcommand(
        "install",
        "put the broker into the system's Mosquitto",
        broker_install.configure,
        broker_install.install,
        broker_install.EXAMPLES,
        broker_install.DETAILS,
    ),
    Subcommand(
        "check",
        "look at the running broker from outside: does it refuse what it should?",
        _check,
        actions.check,
        ("check", "check --host mqtt.local"),
    ),
    Subcommand(
        "client-config",
        "print what another client needs to connect as an id: ready lines, with the id's files",
        broker_clients.configure,
        broker_clients.client_config,
        (
            "client-config me --for mosquitto",
            "client-config dashboard --for node-red --directory /home/pi/certificates",
            "client-config garage --for esp-idf --out main/securemqtt.h",
        ),
        """

The lines name the files of the id, which `securemqtt provision pi` or `securemqtt ca device` has
made; nothing is issued here. The private key is never printed. For ESP-IDF and Arduino it is part
of the header, which is written to the file that --out names, and which only you may read. One
certificate is one id: give each client an id of its own.""",
    ),
)
