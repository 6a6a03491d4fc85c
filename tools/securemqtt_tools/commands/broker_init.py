"""What `securemqtt broker init` does."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import Any

from cryptography import x509

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker import lock
from securemqtt_tools.broker.changeover import comes_back, left_behind
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.kinds import AUTO, ENGINES
from securemqtt_tools.broker.nodes import DEFAULT_PORT as CLUSTER_PORT
from securemqtt_tools.broker.public import names_of
from securemqtt_tools.broker.rules import ROLES
from securemqtt_tools.broker.rules_file import read_rules
from securemqtt_tools.cli import FatalError, as_called, warn, whole_number
from securemqtt_tools.commands import broker_cluster
from securemqtt_tools.commands.broker_common import (
    authority_of,
    directory_of,
    installed,
    say_shortcomings,
    where,
)
from securemqtt_tools.pki.foreign import read_certificates
from securemqtt_tools.pki.names import check_device_id
from securemqtt_tools.pki.passphrase import add_passphrase_option

DEFAULT_PORT = 8883
DEFAULT_WEBSOCKETS_PORT = 8884

_PORT = whole_number(0, 65535)  # 0: any that is free

EXAMPLES = (
    "init",
    "init mqtt.local 192.168.1.5 --operator controller",
    "init mqtt.local --websockets --passwords",
    "init mqtt.local --for rabbitmq",
    "init mqtt.local --for rabbitmq --cluster a.local b.local c.local",
    "init mqtt.example.org --certificate /etc/letsencrypt/live/mqtt.example.org/"
    "fullchain.pem \\\n      --key /etc/letsencrypt/live/mqtt.example.org/privkey.pem",
)
DETAILS = """

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
revoked certificate is refused."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
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


def init(args: argparse.Namespace) -> int:
    """Set up the broker."""
    directory = directory_of(args)
    had_issuer = (directory / files.ISSUER).exists()
    if (directory / files.SETTINGS).exists() and not args.force:
        raise FatalError(
            f"there is a broker in {directory} already: to set it up anew, add --force"
        )
    before = BrokerConfig.so_far(directory)
    roles = {check_device_id(identity): role for role in ROLES for identity in getattr(args, role)}
    if bool(args.certificate) != bool(args.key) or (args.root and not args.certificate):
        raise FatalError("a public certificate comes with its key: give --certificate and --key")
    public = (args.certificate, args.key) if args.certificate else None
    settings: dict[str, Any] = {
        "port": args.port,
        "websockets_port": args.websockets,
        "passwords": args.passwords,
        "roles": roles,
        "keep_roles": True,  # a broker that is set up anew, for another name perhaps
        "save_each_change": args.save_each_change,
        "engine": args.kind,
    }
    if args.cluster:
        config = broker_cluster.create(args, authority_of(args), settings)
    else:
        config = BrokerConfig.create(
            directory,
            authority_of(args),
            names=args.names or (_names_in(args.certificate) if public else _own_names()),
            public=public,
            root=args.root,
            bind=args.bind,
            **settings,
        )
    print(f"The broker is set up in {directory}: {where(config)}, for {', '.join(config.names)}.")
    for identity, role in config.roles.items():
        print(f"{identity} {ROLES[role].summary}.")
    if config.is_public:
        root = x509.load_pem_x509_certificate((directory / files.ROOT).read_bytes())
        print(
            f"It shows the certificate in {config.certificate}. Devices that are provisioned from "
            f"now on trust {root.subject.rfc4514_string()!r} beside our own authority; provision "
            "the others again."
        )
        print(as_called("After each renewal of the certificate: securemqtt broker reload."))
    if config.passwords:
        print(
            as_called(
                "Each device needs a password as well: securemqtt broker password ID --out FILE"
            )
        )
    if had_issuer and not config.is_public:
        print(
            as_called(
                "Its issuing key was for the names of before: make one with securemqtt broker "
                "issuer."
            )
        )
    sharing = ", ".join(sorted(read_rules(config.directory).shared))
    if sharing and not config.passwords:
        warn(
            f"it asks for no passwords, so none of those who share the certificate of {sharing} "
            f"comes in as itself (docs/shared-certificates.md)"
        )
    engine = installed(config)
    if engine is not None:
        say_shortcomings(engine.shortcomings(config))
    if before is not None:
        kinds = (before.engine, config.engine)
        say_shortcomings(left_behind(directory, *kinds) + comes_back(directory, *kinds))
    broker_cluster.say_left(config)
    broker_cluster.say_nodes(args, config)
    runs = lock.is_held(directory)
    print(as_called(f"Next: securemqtt broker {'reload' if runs else 'run, or install'}."))
    return 0


def _names_in(certificate: Path) -> list[str]:
    names = names_of(read_certificates(certificate)[0])
    if not names or any("*" in name for name in names):
        raise FatalError("which of the certificate's names do devices use? Give NAME")
    return names


def _own_names() -> list[str]:
    host = socket.gethostname().partition(".")[0]
    return [f"{host}.local", host, "localhost", "127.0.0.1"]
