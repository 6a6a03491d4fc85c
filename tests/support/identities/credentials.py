"""Certificates as our authority would never issue them, made by hand for the intruders of the
security tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securemqtt_tools.pki import Authority, Issued
from securemqtt_tools.pki.layout import ROOT_KEY

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Credentials:
    """A certificate (chain) and its key, in files, as Python's ssl wants them."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Signer:
    """Who signs: a CA certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def write_credentials(directory: Path, certificate_pem: bytes, key_pem: bytes) -> Credentials:
    """Write a certificate and its key to new files."""
    directory.mkdir(parents=True, exist_ok=True)
    serial = x509.load_pem_x509_certificate(certificate_pem).serial_number
    certificate, key = directory / f"{serial:x}.crt", directory / f"{serial:x}.key"
    certificate.write_bytes(certificate_pem)
    key.touch(0o600)
    key.write_bytes(key_pem)
    return Credentials(certificate, key)


def issued_credentials(directory: Path, issued: Issued) -> Credentials:
    """Write what the authority issued to files."""
    return write_credentials(directory, issued.chain_pem(), issued.key_pem())


def signer_of(authority: Authority) -> Signer:
    """Return the root of an authority whose key is not encrypted, to sign with it what the
    authority would refuse.
    """
    key = serialization.load_pem_private_key((authority.directory / ROOT_KEY).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Signer(authority.root, key)


def namesake_of(authority: Authority) -> Signer:
    """Make another authority with the very same name, and a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = authority.root.subject
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Signer(certificate, key)


def client_certificate(
    directory: Path,
    signer: Signer,
    common_names: Sequence[str],
    *,
    usages: Sequence[x509.ObjectIdentifier] = (CLIENT_AUTH,),
    age: timedelta = timedelta(hours=1),
    lifetime: timedelta = timedelta(days=1),
    alternative_names: Sequence[x509.GeneralName] = (),
    names_key: bool = True,
) -> Credentials:
    """Sign a certificate for these common names (none, one, several) that began `age` ago; without
    `usages`, no EKU, without `alternative_names`, no SAN, without `names_key`, no AKI.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.now(timezone.utc) - age
    builder = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
        )
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names_key:
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
        builder = builder.add_extension(authority_key, critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if alternative_names:
        names = x509.SubjectAlternativeName(alternative_names)
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signer.key, hashes.SHA256())
    return write_credentials(
        directory,
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
