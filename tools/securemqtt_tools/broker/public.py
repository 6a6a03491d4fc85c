"""A public certificate for our broker: of Let's Encrypt's say, kept up to date by certbot or lego.

It proves to everybody who the broker is. Who may enter is another matter, and stays with our own
authority: a public CA's certificates are for anybody.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import foreign, keys
from securemqtt_tools.pki.issued import certificate_pem


def read_public(certificate: Path, key: Path, names: Sequence[str], now: datetime) -> bytes:
    """Return key and chain in one PEM text, as a broker has them. Raise FatalError for what no
    device would take: dates, a chain with a gap, a certificate without one of the names.
    """
    chain, private = foreign.read_identity(certificate, key, None, now)
    keys.check_public_key(chain[0].public_key())
    foreign.check_usable(chain, private, certificate)
    if not foreign.is_for(chain[0], ExtendedKeyUsageOID.SERVER_AUTH):
        raise FatalError(f"the certificate in {certificate} is not for a server")
    listed = names_of(chain[0])
    for name in names:
        if not any(_covers(one, name) for one in listed):
            raise FatalError(
                f"the certificate in {certificate} is not for {name}, but for "
                f"{', '.join(listed) or 'no name at all'}: name the broker as it does"
            )
    return keys.key_pem(private) + b"".join(certificate_pem(one) for one in chain)


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses that a server's certificate is for."""
    names = foreign.extension(certificate, x509.SubjectAlternativeName)
    return [] if names is None else [str(one.value) for one in names.value]


def find_root(certificate: Path, root: Path | None) -> x509.Certificate:
    """Return the root that issued a chain: in the file `root`, else among those that this computer
    trusts. Raise FatalError.
    """
    last = foreign.read_certificates(certificate)[-1]
    if root is not None:
        found = foreign.read_certificates(root)
        remedy = f"give the root that {last.issuer.rfc4514_string()!r} is"
        where = str(root)
    else:
        found = tuple(_trusted_here())
        remedy = "give it with --root FILE"
        where = "the CAs that this computer trusts"
    issuers = [one for one in found if foreign.was_issued(last, [one])]
    if not issuers:
        raise FatalError(
            f"{last.issuer.rfc4514_string()!r}, which issued the end of the chain in "
            f"{certificate}, is not in {where}: {remedy}, and see that the file has the whole "
            "chain (certbot's fullchain.pem)"
        )
    # One that is signed by an older root, too, comes twice: the self-signed one stays the longest.
    return max(issuers, key=lambda one: (one.issuer == one.subject, one.not_valid_after_utc))


def root_pem(root: x509.Certificate) -> bytes:
    """Return a root as it lies in the broker's directory, for `provision` to hand out."""
    return root.public_bytes(Encoding.PEM)


def _trusted_here() -> list[x509.Certificate]:
    found = []
    with warnings.catch_warnings():
        # Of old ones, whose serial number is none: that is not this user's business.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for content in ssl.create_default_context().get_ca_certs(binary_form=True):
            try:
                found.append(x509.load_der_x509_certificate(content))
            except ValueError:  # one that `cryptography` takes for malformed is none to hand out
                continue
    return found


def _covers(listed: str, name: str) -> bool:
    """Return True if a name of a certificate is that of a host (RFC 6125, section 6.4.3)."""
    listed, name = listed.lower(), name.lower()
    if listed[:2] != "*.":
        return listed == name
    return name.partition(".")[2] == listed[2:] and not name.replace(".", "").isdigit()
