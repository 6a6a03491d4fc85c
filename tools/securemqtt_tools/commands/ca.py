"""Certificate authority: makes, signs, renews and revokes the certificates of brokers and devices.

Examples:
  securemqtt ca init                              make the authority (asks for a passphrase)
  securemqtt ca server mqtt.local 192.168.1.5     certificate and key for the broker, as files
  securemqtt ca device greenhouse-1               certificate and key for a device, as files
  securemqtt ca sign greenhouse-2.csr             sign a request: the key stays on the device
  securemqtt ca revoke greenhouse-1               and write the new CRL
  securemqtt ca list --expiring 90                what ends within 90 days
  securemqtt ca recover                           after the authority came from a backup
"""

from __future__ import annotations

import argparse
from pathlib import Path

from securemqtt_tools import completion
from securemqtt_tools.cli import Subcommand, add_subcommands, whole_number
from securemqtt_tools.commands import ca_crl, ca_issuing, ca_setup, ca_shared, ca_showing
from securemqtt_tools.pki.entry import STATES
from securemqtt_tools.pki.keys import KEY_TYPES
from securemqtt_tools.pki.passphrase import add_passphrase_option
from securemqtt_tools.pki.profiles import CRL_DAYS, DEVICE, LIFETIME_DAYS, REASONS, ROLES, SERVER

# A hundred years, further than any certificate here reaches. What the authority's own end allows is
# told when it is known.
_MOST_DAYS = 36500
_DAYS = whole_number(1, _MOST_DAYS, "days")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    add_subcommands(parser, "ca", _COMMANDS)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; 0 when it did what it should. Raise FatalError."""
    args.action(args)
    return 0


def _issue_devices(args: argparse.Namespace) -> None:
    (ca_issuing.device if args.shared is None else ca_shared.share)(args)


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", help="name of the authority (default: securemqtt and six random digits)"
    )
    parser.add_argument(
        "--intermediate",
        action="store_true",
        help="sign with an intermediate, so that the root's key can go offline",
    )
    _add_key_type(parser)
    keys = parser.add_mutually_exclusive_group()
    add_passphrase_option(keys)
    keys.add_argument(
        "--leave-keys-unencrypted",
        action="store_true",
        help="no passphrase: whoever reads the key files can make certificates",
    )


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="host name or IP address, as devices will use it"
    )
    _add_issue_options(parser, LIFETIME_DAYS[SERVER])
    _add_key_type(parser)
    _add_key_options(parser)


def _device(parser: argparse.ArgumentParser) -> None:
    ids = parser.add_argument(
        "ids", nargs="+", metavar="ID", help="device id: 1 to 64 of A-Z a-z 0-9 _ -"
    )
    completion.completed(ids, completion.ids)
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        dest="groups",
        metavar="GROUP",
        help="a group whose rules count for it (securemqtt broker rules); may be repeated",
    )
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        dest="networks",
        metavar="NET",
        help="a network that it has to come from, 192.0.2.0/24 say (securemqtt broker network); "
        "may be repeated",
    )
    parser.add_argument(
        "--shared",
        metavar="GROUP",
        help="one certificate for all of them, which join this group, and a password for each: "
        "only where a certificate for each cannot be (docs/shared-certificates.md)",
    )
    _add_issue_options(parser, LIFETIME_DAYS[DEVICE])
    _add_key_type(parser)
    _add_key_options(parser)


def _sign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "request", type=Path, metavar="CSR", help="signing request (PKCS 10; PEM or DER)"
    )
    parser.add_argument(
        "--role",
        choices=(DEVICE, SERVER),
        default=DEVICE,
        help="what the certificate is for (default: device)",
    )
    parser.add_argument("--id", help="the device's id (default: the common name in the request)")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        dest="names",
        help="a server's name, may be repeated (default: as asked)",
    )
    _add_issue_options(parser)
    parser.add_argument(
        "--der", action="store_true", help="write DER, one certificate per file, as boards take it"
    )


def _renew(parser: argparse.ArgumentParser) -> None:
    _add_subject(parser)
    parser.add_argument(
        "--revoke-old", action="store_true", help="revoke what it had, and write the new CRL"
    )
    _add_output_options(parser)
    _add_key_options(parser)


def _renew_intermediate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root-key", type=Path, metavar="FILE", help="the root's key, if it is kept elsewhere"
    )
    add_passphrase_option(parser)


def _revoke(parser: argparse.ArgumentParser) -> None:
    _add_subject(parser)
    parser.add_argument(
        "--reason",
        choices=REASONS,
        default="unspecified",
        metavar="REASON",
        help=f"as the CRL names it (RFC 5280): {', '.join(REASONS)} (default: unspecified)",
    )
    add_passphrase_option(parser)


def _crl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days",
        type=_DAYS,
        help=f"how long it is valid (default: {CRL_DAYS}, or as long as the CA)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write it there too, readable by the broker"
    )
    add_passphrase_option(parser)


def _recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places",
        nargs="*",
        type=Path,
        metavar="FILE|DIR",
        help="a CRL or a certificate of this authority, or a directory with some, beside what is "
        "in HOME",
    )
    add_passphrase_option(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", choices=ROLES, help="only those of this role")
    parser.add_argument("--state", choices=STATES, help="only those in this state")
    parser.add_argument(
        "--expiring",
        type=whole_number(0, _MOST_DAYS, "days"),
        metavar="DAYS",
        help="only those in use that end within DAYS",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _show(parser: argparse.ArgumentParser) -> None:
    subject = parser.add_argument(
        "subject", nargs="?", metavar="NAME|SERIAL", help="default: the authority itself"
    )
    completion.completed(subject, completion.subjects)
    parser.add_argument("--role", choices=ROLES, help="if a name is that of several")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument(
        "--pem", action="store_true", help="print the newest certificate (or the root's) in PEM"
    )


def _add_subject(parser: argparse.ArgumentParser) -> None:
    subject = parser.add_argument(
        "subject", metavar="NAME|SERIAL", help="device id, server name, or serial number in hex"
    )
    completion.completed(subject, completion.subjects)
    parser.add_argument("--role", choices=ROLES, help="if a name is that of several")


def _add_issue_options(parser: argparse.ArgumentParser, days: int | None = None) -> None:
    parser.add_argument(
        "--renew", action="store_true", help="replace the certificate that is there"
    )
    _add_output_options(parser, days)


def _add_output_options(parser: argparse.ArgumentParser, days: int | None = None) -> None:
    default = (
        str(days)
        if days
        else ", ".join(f"{count} for a {role}" for role, count in LIFETIME_DAYS.items())
    )
    parser.add_argument("--days", type=_DAYS, help=f"how long it is valid (default: {default})")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the files go (default: HOME/ca/issued/…)"
    )
    add_passphrase_option(parser)


def _add_key_type(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key-type",
        choices=KEY_TYPES,
        default="p256",
        help="default: p256; rsa2048 to rsa4096 are for old devices",
    )


def _add_key_options(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--der", action="store_true", help="write DER, one certificate per file, as boards take it"
    )
    form.add_argument(
        "--encrypt-key", action="store_true", help="encrypt the private key (asks for a passphrase)"
    )
    form.add_argument(
        "--key-passphrase-file",
        type=Path,
        metavar="FILE",
        help="encrypt the private key with the passphrase in FILE",
    )


_COMMANDS = (
    Subcommand(
        "init",
        "make the authority",
        _init,
        ca_setup.init,
        ("init", "init --intermediate --name 'Our farm'"),
    ),
    Subcommand(
        "server",
        "issue a server's certificate and key",
        _server,
        ca_issuing.server,
        ("server mqtt.local 192.168.1.5", "server mqtt.local --renew --out /tmp/broker"),
    ),
    Subcommand(
        "device",
        "issue devices' certificates and keys",
        _device,
        _issue_devices,
        (
            "device greenhouse-1",
            "device pump-1 pump-2 --days 365",
            "device old-pi --key-type rsa2048",
            "device lamp-1 lamp-2 lamp-3 --shared lamps",
        ),
        """

With --shared the devices have one key, and their passwords alone tell them apart: who steals the
key has that of all, taking out one leaves it the certificate, revoking it takes out all, and no log
proves which of them it was. The broker must ask for passwords (broker init --passwords); HiveMQ and
RabbitMQ do not.""",
    ),
    Subcommand(
        "sign",
        "sign a request, made where the private key stays",
        _sign,
        ca_issuing.sign,
        ("sign greenhouse-2.csr", "sign broker.csr --role server --name mqtt.local"),
    ),
    Subcommand(
        "renew",
        "issue anew, for the same subject and names",
        _renew,
        ca_issuing.renew,
        ("renew greenhouse-1", "renew mqtt.local --revoke-old"),
    ),
    Subcommand(
        "renew-intermediate",
        "extend the life of the intermediate, with the root's key",
        _renew_intermediate,
        ca_setup.renew_intermediate,
        ("renew-intermediate --root-key /media/usb/root.key",),
    ),
    Subcommand(
        "replace-intermediate",
        "after its key was stolen: revoke the intermediate and make another, with the root's key",
        _renew_intermediate,
        ca_setup.replace_intermediate,
        ("replace-intermediate --root-key /media/usb/root.key",),
        """

Brokers then refuse whatever the old one has issued, yours and the thief's. Devices do not: they
check no CRL, and take a server that the old one has issued. Where that matters, make a new
authority.""",
    ),
    Subcommand(
        "revoke",
        "revoke certificates and write the new CRL",
        _revoke,
        ca_crl.revoke,
        ("revoke greenhouse-1 --reason keyCompromise", "revoke 21C821A4CA55621B"),
        """

Brokers check the CRL and refuse a revoked device. Devices check none: they take a revoked server
until its certificate ends. So after a server's key was stolen, revoking it is the smaller half:
docs/certificates.md has the rest.""",
    ),
    Subcommand(
        "crl",
        "sign a new CRL",
        _crl,
        ca_crl.crl,
        ("crl", "crl --out /etc/mosquitto/certs/crl.pem"),
    ),
    Subcommand(
        "recover",
        "after a backup was restored: take over what it does not know",
        _recover,
        ca_crl.recover,
        ("recover", "recover /etc/mosquitto/securemqtt old-laptop/crl.pem"),
        """

A backup knows nothing of what was issued and revoked after it was made. What the authority has
signed since tells: the broker's CRL above all, and certificates. Those in HOME (broker, ca/issued,
bundles) are found without being named. Revocations are taken over, certificates become known again,
and a new CRL is signed. Until then a CRL that says more than the inventory is not replaced.""",
    ),
    Subcommand(
        "list",
        "list what was issued",
        _list,
        ca_showing.list_entries,
        ("list --expiring 90", "list --state revoked --json"),
    ),
    Subcommand(
        "show",
        "show a certificate's life, or the authority",
        _show,
        ca_showing.show,
        ("show greenhouse-1", "show --pem > root.crt"),
    ),
)
