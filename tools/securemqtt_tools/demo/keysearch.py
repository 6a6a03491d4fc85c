"""Find P-256 private keys: those in a flash image, and the files of this machine in which one of
them shows up in any usual form.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

# ECPrivateKey of a 32-byte key, as it begins in SEC 1 and within PKCS 8 (RFC 5915, section 3).
_KEY_BYTES = 32
_PRIVATE_KEY = re.compile(rb"\x02\x01\x01\x04\x20(.{32})", re.DOTALL)


def keys_in(image: bytes, public_key: object) -> set[bytes]:
    """Return the private key that belongs to `public_key`, as its 32 bytes, if it lies in `image`
    in DER, unencrypted.
    """
    candidates = set(_PRIVATE_KEY.findall(image))
    return {
        secret
        for secret in candidates
        if (pair := _key_of(secret)) is not None and pair.public_key() == public_key
    }


def secret_bytes(key: object) -> bytes:
    """Return the 32 bytes of a private key. Raise TypeError for one that is not on P-256."""
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != ec.SECP256R1.name:
        raise TypeError("not a P-256 key")
    return key.private_numbers().private_value.to_bytes(_KEY_BYTES, "big")


def files_with(secret: bytes, directory: Path) -> Iterator[Path]:
    """Return the files below `directory` that hold a private key: as bytes (so in DER too), in
    hexadecimal, or in Base64 (so in PEM too).
    """
    hexadecimal, base64_forms = secret.hex().encode(), _base64_forms(secret)
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            text = b"".join(content.split())  # PEM breaks its lines
            if (
                secret in content
                or hexadecimal in text.lower()
                or any(form in text for form in base64_forms)
            ):
                yield path


def _base64_forms(secret: bytes) -> list[bytes]:
    """Return the key in Base64 as it looks after 0, 1 or 2 bytes of something else, without the
    characters that it shares with neighbours.
    """
    return [
        base64.b64encode(b"\0" * before + secret).rstrip(b"=")[shared:-1]
        for before, shared in enumerate((0, 2, 3))
    ]


def _key_of(secret: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
    except ValueError:  # not in the range of a key
        return None
