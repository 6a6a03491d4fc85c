"""Private and public keys: which kinds are taken, how they are made, kept and read back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import read_private

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Passphrase: TypeAlias = bytes | Callable[[], bytes] | None

KEY_TYPES = ("p256", "p384", "rsa2048", "rsa3072", "rsa4096")
_CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}
# RFC 9325 §4.5 sets the floor; above 4096 a board needs half a minute for a handshake
_RSA_BITS = range(2048, 4097)


def generate_key(key_type: str) -> PrivateKey:
    """Make a private key of one of KEY_TYPES; RSA-4096 can take a few seconds.

    Raise FatalError for another type.
    """
    if key_type not in KEY_TYPES:
        raise FatalError(f"{key_type!r} is no key type: use one of {', '.join(KEY_TYPES)}")
    if key_type in _CURVES:
        return ec.generate_private_key(_CURVES[key_type])
    return rsa.generate_private_key(
        public_exponent=65537, key_size=int(key_type.removeprefix("rsa"))
    )


def check_public_key(key: object) -> PublicKey:
    """Return `key` back if a certificate may be issued for it; FatalError says what is wrong with
    it otherwise.
    """
    accepted = "accepted are ECDSA on P-256 or P-384, and RSA of 2048 to 4096 bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in {curve.name for curve in _CURVES.values()}:
            return key
        raise FatalError(f"its key is on the curve {key.curve.name}: {accepted}")
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS:
            raise FatalError(f"its RSA key has {key.key_size} bits: {accepted}")
        if key.public_numbers().e < 65537:
            raise FatalError("its RSA key has a public exponent below 65537: make a new key")
        return key
    raise FatalError(f"its key is of a kind that boards cannot use: {accepted}")


def describe_key(key: PublicKey) -> str:
    """Name a key's type as KEY_TYPES does."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa{key.key_size}"
    return next(name for name, curve in _CURVES.items() if curve.name == key.curve.name)


def key_fingerprint(key: PublicKey) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo in hex: two certificates for one key have the
    same.
    """
    info = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(info).hexdigest()


def key_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return a private key as PKCS 8 in PEM, encrypted (PBES2, AES-256) when there is a
    passphrase.
    """
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def key_der(key: PrivateKey) -> bytes:
    """Return a private key as PKCS 8 in DER, unencrypted: what a board takes."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(path: Path, certificate: x509.Certificate, passphrase: Passphrase) -> PrivateKey:
    """Read the private key of `certificate`; a callable `passphrase` is called only if the key is
    encrypted.

    Raise FatalError when the file is missing, open to others, damaged, or of another certificate,
    and for a wrong passphrase.
    """
    if not path.exists():
        raise FatalError(
            f"the private key {path} is not here: put it back (from where it is kept offline, or "
            f"from a backup)"
        )
    content = read_private(path)
    secret: bytes | None = None
    if b"ENCRYPTED" in content:
        secret = passphrase() if callable(passphrase) else passphrase
        if not secret:
            raise FatalError(
                f"{path} is encrypted: give its passphrase (--passphrase-file FILE, or answer the "
                f"prompt)"
            )
    try:
        key = serialization.load_pem_private_key(content, secret)
    except (ValueError, UnsupportedAlgorithm) as error:
        if secret is not None:
            raise FatalError(f"wrong passphrase for {path}") from error
        raise FatalError(
            f"{path} holds no private key in PEM, or is damaged: restore it from a backup"
        ) from error
    if (
        not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey))
        or key.public_key() != certificate.public_key()
    ):
        raise FatalError(
            f"{path} is not the key of {certificate.subject.rfc4514_string()}: restore the right "
            f"one"
        )
    return key
