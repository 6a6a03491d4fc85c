"""By what the nodes of a cluster know each other: certificates of their own kind, and a cookie.

The authority of the devices has no part in it, so no certificate of a device or of a server is
worth anything there. Whoever sets a cluster up makes a key for the occasion, certifies one key for
each node, and keeps it nowhere: no further node can come.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, make_directory, read_private, write_files
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.keys import generate_key, key_pem
from securemqtt_tools.pki.profiles import BACKDATE, Issuer, ca_certificate

# In rabbitmq/ in a node's directory.
DIRECTORY = "cluster"
TRUST = "nodes.pem"
NODE = "node.pem"
COOKIE = "cookie"
# Its copy in rabbitmq/ itself, where Erlang looks for it.
ERLANG_COOKIE = ".erlang.cookie"
_DAYS = 10 * 365


def make_memberships(nodes: Sequence[str], now: datetime) -> dict[str, dict[str, bytes]]:
    """Return the files of each node by its name."""
    begin, end = now - BACKDATE, now + timedelta(days=_DAYS)
    key = generate_key("p256")
    trust = ca_certificate("nodes of a cluster", key.public_key(), 0, begin, end, key)
    issuer = Issuer(trust, key)
    cookie = secrets.token_hex(32).encode()
    return {
        one: {
            TRUST: certificate_pem(trust),
            NODE: _node(one, issuer),
            COOKIE: cookie,
        }
        for one in nodes
    }


def write_membership(directory: Path, files: dict[str, bytes]) -> None:
    """Write a node's files into its directory of RabbitMQ's. Raise FatalError."""
    make_directory(directory / DIRECTORY)
    write_files(directory / DIRECTORY, files)


def remove_membership(directory: Path) -> bool:
    """Take a node's files away from its directory of RabbitMQ's; return True if there were some.
    Raise FatalError.
    """
    here = directory / DIRECTORY
    if not here.exists():
        return False
    with explained(f"remove {here}"):
        (directory / ERLANG_COOKIE).unlink(missing_ok=True)
        shutil.rmtree(here)
    return True


def read_cookie(directory: Path) -> bytes:
    """Return the cookie, where nothing is missing. Raise FatalError."""
    here = directory / DIRECTORY
    for one in (TRUST, NODE, COOKIE):
        if not (here / one).exists():
            raise FatalError(
                f"{here / one} is missing, by which the other nodes know this one: copy the "
                f"directory that securemqtt broker init made for this node"
            )
    for one in (TRUST, NODE):
        read_private(here / one)
    return read_private(here / COOKIE)


def _node(name: str, issuer: Issuer) -> bytes:
    key = generate_key("p256")
    # Erlang looks for an address among the names, too
    names = [x509.DNSName(name)]
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.certificate.not_valid_before_utc)
        .not_valid_after(issuer.certificate.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    return key_pem(key) + certificate_pem(certificate)
