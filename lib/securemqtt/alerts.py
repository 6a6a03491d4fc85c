"""What a broker's TLS alert means (RFC 8446, section 6), seen together with this device's own
certificate. Part of the diagnosis.
"""

import binascii
import time

from . import files
from ._compat import TYPE_CHECKING, const

if TYPE_CHECKING:
    from typing import Any

_HANDSHAKE_FAILURE = const(40)
_REVOKED = const(44)
_EXPIRED = const(45)
_ACCESS_DENIED = const(49)
_PROTOCOL_VERSION = const(70)
_UNRECOGNIZED_NAME = const(112)
_CERTIFICATE_REQUIRED = const(116)
# Bad, unsupported, revoked, expired, unknown certificate; unknown CA; access denied. Not 47,
# illegal parameter.
_ABOUT_CERTIFICATE = (42, 43, _REVOKED, _EXPIRED, 46, 48, _ACCESS_DENIED, _CERTIFICATE_REQUIRED)

# The public half at the end of a P-256 or P-384 key (RFC 5915): a BIT STRING with an uncompressed
# point.
_POINTS = ((64, b"\x03\x42\0\x04"), (96, b"\x03\x62\0\x04"))
# In an RSA key (RFC 8017, appendix A.1.2) the modulus follows the version; its first 64 bytes say
# enough.
_RSA_VERSION = b"\x02\x01\0\x02\x82"


def verdict(alert: "int | None", settings: "dict[str, Any]") -> "tuple[str, str, object]":
    """Name the error's class, what happened, and the variant of its words.

    `alert` is None for a peer that closed without a word.
    """
    peer = "{}:{}".format(settings["host"], settings["port"])
    if alert == _PROTOCOL_VERSION:
        return (
            "TLSVersionTooOld",
            peer + " does not speak the TLS version that this device does",
            "alert",
        )
    if alert == _UNRECOGNIZED_NAME:
        return (
            "HostNameMismatch",
            peer + " does not know the name that this device calls it by",
            alert,
        )
    certificate = _own_certificate(settings)
    if not certificate:
        # TLS 1.2 has no alert of its own for it: OpenSSL says 40 there.
        if alert is None or alert == _HANDSHAKE_FAILURE or alert in _ABOUT_CERTIFICATE:
            return (
                "ClientCertificateMissing",
                peer + " wants a certificate, and this device has none",
                alert,
            )
    elif _is_of_another(files.read(settings["path"], settings["key"]), certificate):
        return (
            "KeyMismatch",
            "the private key is not the one that belongs to the certificate "
            + settings["certificate"][0],
            alert,
        )
    elif alert is None or alert in _ABOUT_CERTIFICATE:
        what = peer + " refused the certificate of this device"
        if alert == _REVOKED:
            return "ClientCertificateRevoked", what + ": it has been revoked", alert
        ends = _ends(certificate)
        if alert in (None, _EXPIRED) and "" < ends < "{}{:02d}{:02d}{:02d}{:02d}{:02d}".format(
            *time.gmtime()[:6]
        ):
            return (
                "ClientCertificateExpired",
                what + ": it ended on {}-{}-{}".format(ends[:4], ends[4:6], ends[6:8]),
                alert,
            )
        return "ClientCertificateRefused", what, alert
    return "HandshakeFailed", peer + " broke off the TLS handshake", alert


def _own_certificate(settings: "dict[str, Any]") -> bytes:
    """Return this device's certificate in DER, nothing if it has none."""
    names = files.names(settings["certificate"])
    if not names:
        return b""
    content = files.read(settings["path"], names[0])
    start = content.find(b"-----BEGIN CERTIFICATE-----")
    if start < 0:
        return content
    return binascii.a2b_base64(content[start + 27 : content.find(b"-----END", start)])


def _ends(certificate: bytes) -> str:
    """Return a certificate's notAfter as YYYYMMDDhhmmss: it follows the Z of notBefore (RFC 5280,
    section 4.1.2.5). Nothing if it is not found.
    """
    at = certificate.find(b"Z\x17\x0d")
    if at >= 0:
        return "20" + certificate[at + 3 : at + 15].decode()
    at = certificate.find(b"Z\x18\x0f")
    return certificate[at + 3 : at + 17].decode() if at >= 0 else ""


def _is_of_another(key: bytes, certificate: bytes) -> bool:
    """Return True if a key in DER has its public half with it, and this is not the one in the
    certificate. In PEM, OpenSSL has checked that.
    """
    for size, head in _POINTS:
        if key[-size - 4 : -size] == head:
            return key[-size:] not in certificate
    at = key.find(_RSA_VERSION)
    return at > 0 and key[at + 8 : at + 72] not in certificate
