"""Certificates and keys, as far as this library looks into them itself.

What is looked for in DER has a form of its own, so no parser is needed.
"""

import binascii
import time

from .. import bundle
from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..settings import Settings

_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
# The public half at the end of an EC key (RFC 5915): a BIT STRING with an uncompressed point. By
# the size of a coordinate in bytes: P-256 and P-384.
_POINTS = ((32, b"\x03\x42\0\x04"), (48, b"\x03\x62\0\x04"))
# In an RSA key (RFC 8017, appendix A.1.2) the modulus follows the version; its first 64 bytes say
# enough.
_RSA_VERSION = b"\x02\x01\0\x02\x82"


def own_certificate(settings: "Settings") -> bytes:
    """Return this device's certificate in DER, nothing if it has none. Raise FileMissing."""
    names = bundle.names(settings.certificate)
    if not names:
        return b""
    content = bundle.read(settings.path, names[0])
    start = content.find(_BEGIN_CERTIFICATE)
    if start < 0:
        return content
    return binascii.a2b_base64(
        content[start + len(_BEGIN_CERTIFICATE) : content.find(b"-----END", start)]
    )


def not_after(certificate: bytes) -> str:
    """Return when a certificate in DER ends: YYYYMMDDhhmmss in UTC, nothing if it is not found.

    It follows the Z of notBefore, as UTCTime or GeneralizedTime (RFC 5280, section 4.1.2.5).
    """
    at = certificate.find(b"Z\x17\x0d")
    if at >= 0:
        return "20" + certificate[at + 3 : at + 15].decode()
    at = certificate.find(b"Z\x18\x0f")
    return certificate[at + 3 : at + 17].decode() if at >= 0 else ""


def ended_on(certificate: bytes) -> str:
    """Return the day on which a certificate ended, as YYYY-MM-DD; nothing if it has not.

    Judged by this device's clock, which may be wrong.
    """
    end = not_after(certificate)
    now = "{}{:02d}{:02d}{:02d}{:02d}{:02d}".format(*time.gmtime()[:6])
    return "-".join((end[:4], end[4:6], end[6:8])) if "" < end < now else ""


def key_fits(key: bytes, certificate: bytes) -> bool:
    """Return False if a private key in DER has its public half with it, and the certificate not.

    mbedTLS takes any two, and only the broker would notice. In PEM, OpenSSL has looked already.
    """
    for size, head in _POINTS:
        point = key[-2 * size - 4 :]
        if point[:4] == head:
            # The certificate has its x, and its y only where the point is not compressed.
            return point[4 : 4 + size] in certificate
    at = key.find(_RSA_VERSION)
    return at < 0 or key[at + 8 : at + 72] in certificate
