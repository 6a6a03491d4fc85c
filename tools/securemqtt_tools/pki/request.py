"""Certificate signing requests (PKCS 10): what is taken from one, and what is not.

Taken are its public key, once its signature and the key itself are found good, and, unless the
operator says otherwise, its names. Whatever other extensions it asks for are ignored: the profile
alone decides those.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.keys import PublicKey, check_public_key

_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True)
class SigningRequest:
    """A request whose signature proves that the sender holds the private key."""

    public_key: PublicKey
    common_name: str | None
    names: tuple[str, ...]

    @classmethod
    def parse(cls, content: bytes) -> SigningRequest:
        """Read a request in PEM or DER and check it.

        Raise FatalError that says what is wrong with it.
        """
        try:
            pem = b"-----BEGIN" in content
            request = x509.load_pem_x509_csr(content) if pem else x509.load_der_x509_csr(content)
            valid, algorithm = request.is_signature_valid, request.signature_hash_algorithm
            public_key = check_public_key(request.public_key())
            common_names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            names = _alternative_names(request)
        except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
            raise FatalError(
                "this is no certificate signing request (PKCS 10, PEM or DER) that can be read"
            ) from error
        if not isinstance(algorithm, _HASHES):
            raise FatalError(
                "the signing request is signed with an outdated hash: make it again with SHA-256"
            )
        if not valid:
            raise FatalError(
                "the signing request's signature does not fit its key: it was changed or damaged; "
                "make it again"
            )
        return cls(public_key, str(common_names[0].value) if common_names else None, names)


def _alternative_names(request: x509.CertificateSigningRequest) -> tuple[str, ...]:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        str(name.value) for name in names if isinstance(name, (x509.DNSName, x509.IPAddress))
    )
