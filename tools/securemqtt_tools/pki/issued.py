"""A certificate that was just issued, with its chain and (if made here) its private key: in memory,
in any form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import keys


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_der(certificate: x509.Certificate) -> bytes:
    """Return a certificate in DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Issued:
    """What `Authority.issue_device` and its kin give. The inventory has recorded it already.

    `chain` holds the certificate first, then the intermediate if there is one; the root is not in
    it. `key` is None where the owner made it and only sent a signing request.
    """

    role: str
    subject: str
    names: tuple[str, ...]
    serial: str
    chain: tuple[x509.Certificate, ...]
    key: keys.PrivateKey | None = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate itself."""
        return self.chain[0]

    def not_handed_out(self, error: FatalError) -> FatalError:
        """Return the error for what failed after it was recorded, which says how to go on."""
        return FatalError(
            f"{error}; the certificate of {self.subject} was issued (serial {self.serial}) but not "
            f"handed out: then run securemqtt ca renew {self.subject} --role {self.role}"
        )

    def certificate_pem(self) -> bytes:
        """Return the certificate alone in PEM."""
        return certificate_pem(self.certificate)

    def certificate_der(self) -> bytes:
        """Return the certificate alone in DER."""
        return certificate_der(self.certificate)

    def chain_pem(self) -> bytes:
        """Return certificate and intermediate in one PEM text, as OpenSSL, Mosquitto and Python
        want them in one file.
        """
        return b"".join(certificate_pem(one) for one in self.chain)

    def chain_der(self) -> list[bytes]:
        """Return certificate and intermediate in DER, one each: MicroPython silently ignores what
        follows the first.
        """
        return [certificate_der(one) for one in self.chain]

    def key_pem(self, passphrase: bytes | None = None) -> bytes:
        """Return the private key as PKCS 8 in PEM, encrypted if there is a passphrase.

        FatalError when it is not here.
        """
        return keys.key_pem(self._require_key(), passphrase)

    def key_der(self) -> bytes:
        """Return the private key as unencrypted PKCS 8 in DER, for a board.

        FatalError when it is not here.
        """
        return keys.key_der(self._require_key())

    def _require_key(self) -> keys.PrivateKey:
        if self.key is None:
            raise FatalError(
                f"the private key of {self.subject} was never here: it is where its signing "
                f"request was made"
            )
        return self.key
