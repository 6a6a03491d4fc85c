"""CRLs: whose one is, and whether it is later than another of the same issuer."""

from __future__ import annotations

import re

from cryptography import x509

_BEGIN = b"-----BEGIN X509 CRL-----"
_PEM = re.compile(_BEGIN + b".+?-----END X509 CRL-----\n?", re.DOTALL)


def issuer_of(one: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """Return what stands for the key that has signed. A name would not do: a new authority may have
    that of the one before.
    """
    try:
        found = one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return one.issuer.public_bytes()
    return found.value.key_identifier or one.issuer.public_bytes()


def key_of(ca: x509.Certificate) -> bytes:
    """Return what `issuer_of` says of all that a CA of ours has signed."""
    return x509.SubjectKeyIdentifier.from_public_key(ca.public_key()).digest


def number_of(crl: x509.CertificateRevocationList) -> int:
    """Return a CRL's number; 0 if it has none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def serials(crl: x509.CertificateRevocationList) -> frozenset[int]:
    """Return the serial numbers that a CRL has."""
    return frozenset(line.serial_number for line in crl)


def goes_back(
    before: x509.CertificateRevocationList, after: x509.CertificateRevocationList
) -> bool:
    """Return True if `after` is no later CRL of the same issuer than `before`: its number is lower,
    or it lists less, since a revocation stays listed for good.
    """
    return number_of(before) > number_of(after) or not serials(before) <= serials(after)


def crls_in(content: bytes) -> list[x509.CertificateRevocationList]:
    """Return the CRLs that a file's content has, in PEM. Raise ValueError when one is damaged."""
    found = _PEM.findall(content)
    if len(found) != content.count(_BEGIN):
        raise ValueError("a CRL is cut off")
    return [x509.load_pem_x509_crl(one) for one in found]
