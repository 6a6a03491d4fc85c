"""What stands in each certificate and CRL (RFC 5280; draft-ietf-uta-tls13-iot-profile), and nothing
beyond it.

ECDSA (or RSA) with SHA-256 and random serials of 20 octets. A CA has critical basicConstraints with
a path length and no extended key usage; a leaf has critical keyUsage digitalSignature and the
extended key usage of its one role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securemqtt_tools.pki.keys import PrivateKey, PublicKey, generate_key
from securemqtt_tools.pki.names import name_text, server_names

DEVICE = "device"
SERVER = "server"
SHARED = "shared"  # a client's as a device's is, for the devices of a group that share it
ROLES = (DEVICE, SERVER, SHARED)
CLIENTS = (DEVICE, SHARED)

# Certificates and CRLs begin this much earlier, for peers whose clock is slow.
BACKDATE = timedelta(hours=1)
# A device in the field may be out of reach for years. A server is at hand, and Apple's clients take
# 825 days at most.
LIFETIME_DAYS = {DEVICE: 5 * 365, SERVER: 825, SHARED: 5 * 365}
# Of a broker's issuing key: whoever renews that must be at the authority, as for a server before.
ISSUER_DAYS = 825
# A CRL that runs out locks out every device at once, and freshness comes from handing the broker a
# new one at each revocation, so the default is long.
CRL_DAYS = 10 * 365
REASONS = tuple(
    flag.value
    for flag in x509.ReasonFlags
    if flag not in (x509.ReasonFlags.remove_from_crl, x509.ReasonFlags.certificate_hold)
)

_PURPOSES = {
    DEVICE: ExtendedKeyUsageOID.CLIENT_AUTH,
    SERVER: ExtendedKeyUsageOID.SERVER_AUTH,
    SHARED: ExtendedKeyUsageOID.CLIENT_AUTH,
}
_LONGEST_COMMON_NAME = 64  # RFC 5280 appendix A, ub-common-name


@dataclass(frozen=True)
class Issuer:
    """A CA's certificate with its private key: what signs."""

    certificate: x509.Certificate
    key: PrivateKey


def ca_certificate(
    name: str,
    public_key: PublicKey,
    path_length: int,
    not_before: datetime,
    not_after: datetime,
    signer: Issuer | PrivateKey,
    names: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """Make a CA's certificate: self-signed when `signer` is its own private key, else signed by
    that issuer.

    With `names` it is constrained to servers of these names. The constraint is not critical:
    mbedTLS refuses a chain with a critical one, and takes no notice of another.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    if isinstance(signer, Issuer):
        issuer_name, issuer_key, key = (
            signer.certificate.subject,
            signer.certificate.public_key(),
            signer.key,
        )
    else:
        issuer_name, issuer_key, key = subject, signer.public_key(), signer
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)  # type: ignore[arg-type]
    builder = (
        _builder(subject, issuer_name, public_key, not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key, critical=False)
    )
    if names:
        builder = builder.add_extension(_only(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def _only(names: Sequence[x509.GeneralName]) -> x509.NameConstraints:
    """Return the constraint to these names. A kind that has none is shut out as a whole, else all
    of that kind would be allowed (RFC 5280 §4.2.1.10).
    """
    permitted: list[x509.GeneralName] = []
    excluded: list[x509.GeneralName] = []
    for one in names:
        if isinstance(one, x509.IPAddress):
            permitted.append(x509.IPAddress(ip_network(str(one.value))))
        else:
            permitted.append(one)
    if not any(isinstance(one, x509.DNSName) for one in names):
        excluded.append(x509.DNSName(""))
    if not any(isinstance(one, x509.IPAddress) for one in names):
        excluded += [x509.IPAddress(ip_network(every)) for every in ("0.0.0.0/0", "::/0")]
    return x509.NameConstraints(permitted, excluded or None)


def anchor_without(ca: x509.Certificate, device_ids: Iterable[str]) -> x509.Certificate:
    """Return the CA as a trust anchor under which no certificate of `device_ids` is valid, whatever
    its serial number: a self-signed certificate with name constraints (RFC 5280 §4.2.1.10).

    It takes no private key of the CA. What counts in an anchor is its name, its key and its
    constraints (RFC 5280 §6.1.1); its own signature is looked at by nobody, so a passing key makes
    it, of the CA's kind, since OpenSSL looks at that. Names are compared without regard to case
    (RFC 5280 §7.1), so `Pump-1` goes with `pump-1`. No CA below it is trusted.
    """
    passing_key = generate_key("rsa2048" if isinstance(ca.public_key(), RSAPublicKey) else "p256")
    builder = (
        x509.CertificateBuilder()
        .subject_name(ca.subject)
        .issuer_name(ca.subject)
        .public_key(ca.public_key())
        .serial_number(ca.serial_number)
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    for kind in (x509.KeyUsage, x509.SubjectKeyIdentifier):
        found = ca.extensions.get_extension_for_class(kind)
        builder = builder.add_extension(found.value, found.critical)
    shut_out = [
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]))
        for one in sorted(device_ids)
    ]
    if shut_out:
        builder = builder.add_extension(x509.NameConstraints(None, shut_out), critical=True)
    return builder.sign(passing_key, hashes.SHA256())


def excluded_ids(anchor: x509.Certificate, ca: x509.Certificate) -> list[str]:
    """Return the ids that an anchor of `anchor_without` shuts out; none for an anchor of another
    CA.
    """
    if anchor.subject != ca.subject or anchor.public_key() != ca.public_key():
        return []
    try:
        constraints = anchor.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return [
        str(attribute.value)
        for one in constraints.excluded_subtrees or ()
        if isinstance(one, x509.DirectoryName)
        for attribute in one.value.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]


def role_of(certificate: x509.Certificate) -> str | None:
    """Return the role that a leaf was issued for; None where it is for something else."""
    try:
        (purpose,) = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    if purpose == _PURPOSES[SERVER]:
        return SERVER
    if purpose != _PURPOSES[DEVICE]:
        return None
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return SHARED if any(one.value == SHARED for one in units) else DEVICE


def leaf_certificate(
    role: str,
    common_name: str,
    names: Sequence[x509.GeneralName],
    public_key: PublicKey,
    not_before: datetime,
    not_after: datetime,
    issuer: Issuer,
) -> x509.Certificate:
    """Make the certificate of a device (client authentication) or a server (server authentication,
    with `names`); or one that several devices share, which says so in its subject, behind the
    common name: no file has to tell a broker, or an inventory that was restored, which it is.

    A server's name that is too long for a common name is left out of the subject; the alternative
    names, which are what TLS checks, are critical then (RFC 5280 §4.2.1.6).
    """
    attributes = (
        [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if len(common_name) <= _LONGEST_COMMON_NAME
        else []
    )
    if role == SHARED:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, SHARED))
    builder = (
        _builder(
            x509.Name(attributes), issuer.certificate.subject, public_key, not_before, not_after
        )
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_PURPOSES[role]]), critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not attributes)
    return builder.sign(issuer.key, hashes.SHA256())


def short_server(
    names: Sequence[str], issuer: Issuer, now: datetime, days: int
) -> tuple[x509.Certificate, PrivateKey]:
    """Make a server's certificate with a new key by a broker's own issuer, which it does not
    outlive. Raise FatalError for a bad name.
    """
    alternatives = server_names(names)
    key = generate_key("p256")
    begin = max(now - BACKDATE, issuer.certificate.not_valid_before_utc)
    end = min(now + timedelta(days=days), issuer.certificate.not_valid_after_utc)
    subject = name_text(alternatives[0])
    certificate = leaf_certificate(
        SERVER, subject, alternatives, key.public_key(), begin, end, issuer
    )
    return certificate, key


@dataclass(frozen=True)
class Revocation:
    """A line of a CRL."""

    serial: int
    date: datetime
    reason: x509.ReasonFlags


def revocation_list(
    issuer: Issuer,
    number: int,
    this_update: datetime,
    next_update: datetime,
    revocations: Sequence[Revocation],
) -> x509.CertificateRevocationList:
    """Make a CRL with its number; a reason of "unspecified" is left out, as RFC 5280 §5.3.1
    wishes.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
    )
    for one in revocations:
        line = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.date)
        if one.reason is not x509.ReasonFlags.unspecified:
            line = line.add_extension(x509.CRLReason(one.reason), critical=False)
        builder = builder.add_revoked_certificate(line.build())
    return builder.sign(issuer.key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: PublicKey,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _authority_key_identifier(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.certificate.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
