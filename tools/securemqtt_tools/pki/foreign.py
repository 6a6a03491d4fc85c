"""Certificates and keys that somebody else has made: read, PEM or DER, and held to each other."""

from __future__ import annotations

import secrets
import ssl
import tempfile
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import read_foreign, read_private
from securemqtt_tools.pki.keys import Passphrase, PrivateKey, key_pem


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a file: at least one. Raise FatalError."""
    content = read_foreign(path)
    try:
        if b"-----BEGIN" in content:
            found = tuple(x509.load_pem_x509_certificates(content))
        else:
            found = (x509.load_der_x509_certificate(content),)
        for one in found:  # these are looked at only when they are asked for
            _ = one.subject, one.issuer
        return found
    except ValueError as error:
        what = "holds no certificate in PEM or DER, or is damaged"
        if b"PRIVATE KEY" in content:
            what = "holds a private key, and a certificate is wanted here"
        raise FatalError(f"{path} {what}") from error


def read_key(path: Path, password: Passphrase) -> PrivateKey:
    """Return the key of a file that only its owner may read; `password` is called only for an
    encrypted one. It may be of a kind that only computers can use. Raise FatalError.
    """
    content = read_private(path)
    is_pem = b"-----BEGIN" in content
    load = serialization.load_pem_private_key if is_pem else serialization.load_der_private_key
    secret: bytes | None = None
    try:
        try:
            key = load(content, None)
        except TypeError:  # so `cryptography` says that it is encrypted
            secret = password() if callable(password) else password
            key = load(content, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = f"{path} holds no private key in PEM or DER, or is damaged"
        if secret is not None:
            what = f"{path} does not open with this password"
        elif b"BEGIN CERTIFICATE" in content:
            what = f"{path} holds a certificate, and a private key is wanted here"
        raise FatalError(what) from error
    return cast(PrivateKey, key)


def read_identity(
    certificate: Path, key: Path, password: Passphrase, now: datetime
) -> tuple[tuple[x509.Certificate, ...], PrivateKey]:
    """Return a certificate with the intermediates behind it, and its key.

    Raise FatalError where they do not belong together, are out of date, or in the wrong order.
    """
    chain = read_certificates(certificate)
    # Some tools write the root into the chain, too: nobody needs it there.
    chain = (chain[0], *(one for one in chain[1:] if one.issuer != one.subject))
    if is_ca(chain[0]):
        raise FatalError(f"{certificate} begins with a CA's certificate: its own comes first")
    for one in chain:
        check_dates(one, f"the certificate in {certificate}", now)
    for issued, issuer in pairwise(chain):
        if not was_issued(issued, [issuer]):
            raise FatalError(
                f"the chain in {certificate} is broken: {issuer.subject.rfc4514_string()!r} did "
                f"not issue {issued.subject.rfc4514_string()!r}; the certificate itself comes "
                "first, each issuer behind what it issued"
            )
    try:
        public = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FatalError(
            f"the certificate in {certificate} is for a key of a kind that no TLS takes, or is "
            "damaged: take a P-256 or RSA key"
        ) from error
    private = read_key(key, password)
    if private.public_key() != public:
        raise FatalError(f"{key} is not the key of the certificate in {certificate}")
    return chain, private


def check_usable(chain: Sequence[x509.Certificate], private: PrivateKey, certificate: Path) -> None:
    """Raise FatalError for a certificate and key that TLS does not take on this computer: too short
    a key, say. OpenSSL's own rules are asked.
    """
    if isinstance(private, dsa.DSAPrivateKey):
        raise FatalError(f"no TLS takes the DSA key of {certificate}: take a P-256 or RSA key")
    password = secrets.token_urlsafe()  # OpenSSL reads files only: this one nobody can open
    with tempfile.TemporaryDirectory(prefix="securemqtt-") as directory:
        file = Path(directory, "identity.pem")
        text = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
        file.write_bytes(key_pem(private, password.encode()) + text)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password=password)
        except ssl.SSLError as error:
            why = (error.reason or str(error)).replace("_", " ").lower()
            raise FatalError(
                f"no TLS takes the certificate in {certificate} with its key ({why}): take a P-256 "
                "or RSA key of 2048 bits or more, and SHA-256"
            ) from error


def check_dates(certificate: x509.Certificate, title: str, now: datetime) -> None:
    """Raise FatalError for a certificate that has ended, or not begun."""
    if now >= certificate.not_valid_after_utc:
        raise FatalError(f"{title} ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if now < certificate.not_valid_before_utc:
        raise FatalError(
            f"{title} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and "
            f"this computer's clock shows {now:%Y-%m-%d %H:%M}"
        )


def is_for(certificate: x509.Certificate, role: x509.ObjectIdentifier) -> bool:
    """Return True if a certificate may be used in a role, or says nothing of roles."""
    usage = extension(certificate, x509.ExtendedKeyUsage)
    allowed = (role, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    return usage is None or any(one in usage.value for one in allowed)


def is_ca(certificate: x509.Certificate) -> bool:
    """Return True if a certificate says that it may issue others."""
    basic = extension(certificate, x509.BasicConstraints)
    return basic is not None and bool(basic.value.ca)


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    """Return an extension of a certificate, None if it has none of this kind.

    Raise FatalError for a certificate whose extensions are damaged.
    """
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise FatalError(
            f"the certificate of {certificate.subject.rfc4514_string()!r} is damaged, an extension "
            "of it cannot be read: have it issued anew"
        ) from error


def was_issued(certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> bool:
    """Return True if one of these has issued a certificate."""
    for issuer in issuers:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return True
    return False
