"""The CRL as Erlang's TLS finds it: in a directory, under its issuer's name, read at each
handshake.
"""

from __future__ import annotations

import hashlib
import string
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.pki.files import explained, write_file

_TYPE = x509.name._ASN1Type.UTF8String  # noqa: SLF001  (nothing public says how to encode)
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def write_crl(directory: Path, crl: x509.CertificateRevocationList) -> None:
    """Put a CRL in the place of what is in a directory. Raise FatalError."""
    name = f"{hashed(crl.issuer)}.r0"
    write_file(directory / name, crl.public_bytes(Encoding.PEM))
    with explained(f"tidy {directory}"):
        for one in directory.glob("*.r0"):
            if one.name != name:  # of an authority that is no more
                one.unlink()


def hashed(name: x509.Name) -> str:
    """Return what OpenSSL, and Erlang, call the file of a name's CRL (`openssl crl -hash`)."""
    canonical = b""
    for rdn in name.rdns:
        attributes = [
            x509.NameAttribute(
                one.oid, " ".join(str(one.value).split()).translate(_LOWER), _TYPE, _validate=False
            )
            for one in rdn
        ]
        encoded = x509.Name([x509.RelativeDistinguishedName(attributes)]).public_bytes()
        # without the tag and the length of the sequence, which may take several bytes
        canonical += encoded[2 + (encoded[1] & 0x7F if encoded[1] & 0x80 else 0) :]
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"
