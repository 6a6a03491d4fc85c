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
from securemqtt_tools.broker.kinds import AUTO, ENGINES
from securemqtt_tools.broker.nodes import DEFAULT_PORT as CLUSTER_PORT
from securemqtt_tools.broker.rules import ROLES
from securemqtt_tools.cli import Subcommand, add_subcommands, whole_number
from securemqtt_tools.commands import broker_actions as actions
from securemqtt_tools.commands import (
    broker_audit,
    broker_clients,
    broker_install,
    broker_network,
    broker_rules,
    broker_run,
    broker_status,
)
from securemqtt_tools.pki.passphrase import add_passphrase_option

PLAIN = "device"  # the role of who has none
DEFAULT_PORT = 8883
DEFAULT_WEBSOCKETS_PORT = 8884

_PORT = whole_number(0, 65535)  # 0: any that is free


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    add_subcommands(parser, "broker", _COMMANDS)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; 0 when all was well. Raise FatalError."""
    status: int = args.action(args)
    return status


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="host name or IP address (default: those of this host)",
    )
    parser.add_argument("--port", type=_PORT, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}")
    parser.add_argument(
        "--websockets",
        type=_PORT,
        nargs="?",
        const=DEFAULT_WEBSOCKETS_PORT,
        metavar="PORT",
        help=f"also listen for WebSockets over TLS (wss) (PORT: {DEFAULT_WEBSOCKETS_PORT})",
    )
    parser.add_argument(
        "--passwords",
        action="store_true",
        help="demand user name and password on top of the certificate",
    )
    parser.add_argument(
        "--bind",
        metavar="ADDRESS",
        help="listen on this address only (default: all; loopback if NAMEs are loopback)",
    )
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="show this public certificate, with its chain (certbot's fullchain.pem, lego's .crt), "
        "in place of one of your authority's",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="its private key (privkey.pem, .key)"
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FILE",
        help="its root (default: found among the CAs that this computer trusts)",
    )
    for role in ROLES:
        parser.add_argument(
            f"--{role}",
            action="append",
            default=[],
            metavar="ID",
            help=f"an id that {ROLES[role].summary}",
        )
    parser.add_argument(
        "--save-each-change",
        action="store_true",
        help="write sessions to disk at each change instead of every minute: a crash loses less, "
        "at a cost",
    )
    parser.add_argument(
        "--for",
        dest="kind",
        choices=ENGINES,
        default=AUTO,
        help="which broker is to run with it (default: Mosquitto where installed, else the "
        "embedded one)",
    )
    parser.add_argument(
        "--cluster",
        nargs="+",
        metavar="NODE",
        help="the names of all computers that are to be one broker, this one first",
    )
    parser.add_argument(
        "--cluster-port",
        type=whole_number(1, 65535),
        default=CLUSTER_PORT,
        metavar="PORT",
        help=f"where they hear each other, and nobody else (default: {CLUSTER_PORT})",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="set it up anew where there is one already; ids keep their roles",
    )
    add_passphrase_option(parser)


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
        _init,
        actions.init,
        (
            "init",
            "init mqtt.local 192.168.1.5 --operator controller",
            "init mqtt.local --websockets --passwords",
            "init mqtt.local --for rabbitmq",
            "init mqtt.local --for rabbitmq --cluster a.local b.local c.local",
            "init mqtt.example.org --certificate /etc/letsencrypt/live/mqtt.example.org/"
            "fullchain.pem \\\n      --key /etc/letsencrypt/live/mqtt.example.org/privkey.pem",
        ),
        """

With --passwords, a client needs a certificate of the authority and its own user name and password.
The embedded broker also sees to it that both belong to the same id. Mosquitto cannot: there the
user name alone says who a client is, so whoever has the password of one device and the certificate
of another passes for the first.

With --certificate and --key the broker shows a certificate that browsers trust, too. Who may enter
stays with your authority. Both files are read again at each `broker reload`, and once a day by
`broker run`, so that certbot and lego can renew them.

With --cluster each node has a home of its own in HOME/nodes, which is to be brought to its computer
(docs/cluster.md); the NAMEs are those that all nodes share.

With --websockets, Mosquitto before 2.1 takes no notice of a CRL on that port. There an id with a
revoked certificate is refused with any certificate, also a newer one, until the revoked one would
have run out, and so is an id that differs from it in capitals only. On the other port only the
revoked certificate is refused.""",
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
