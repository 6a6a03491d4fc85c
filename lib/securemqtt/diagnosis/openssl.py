"""What OpenSSL and CPython's sockets mean by their errors."""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING

from ..errors import (
    CertificateExpired,
    CertificateNotYetValid,
    ConnectionLost,
    HandshakeFailed,
    HostNameMismatch,
    NotTLS,
    OutOfMemory,
    SecureMQTTError,
    TimedOut,
    TLSVersionTooOld,
    UnknownCA,
)
from .finding import Finding, of_system

if TYPE_CHECKING:
    from .finding import Stage

# Where an error may hide what the broker has said: TLS 1.3 lets us go on before the broker has
# looked at our certificate.
_UNSAID = ("handshake", "connack")

# TLS alerts by the ends of OpenSSL's reasons, which name the number nowhere.
_ALERTS = {
    "HANDSHAKE_FAILURE": 40,
    "BAD_CERTIFICATE": 42,
    "UNSUPPORTED_CERTIFICATE": 43,
    "CERTIFICATE_REVOKED": 44,
    "CERTIFICATE_EXPIRED": 45,
    "CERTIFICATE_UNKNOWN": 46,
    "ILLEGAL_PARAMETER": 47,
    "UNKNOWN_CA": 48,
    "ACCESS_DENIED": 49,
    "DECRYPT_ERROR": 51,
    "PROTOCOL_VERSION": 70,
    "INSUFFICIENT_SECURITY": 71,
    "INTERNAL_ERROR": 80,
    "UNRECOGNIZED_NAME": 112,
    "CERTIFICATE_REQUIRED": 116,
    "NO_APPLICATION_PROTOCOL": 120,
}
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "UNEXPECTED_MESSAGE",
)
_TOO_OLD = ("UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED")
# X509_V_ERR_*: no issuer, self-signed, not verified, chain of one, issuer that is no CA, signature
# that does not fit.
_UNTRUSTED = (2, 4, 6, 7, 18, 19, 20, 21, 24, 27, 79)
_VERIFIED: dict[int, type[SecureMQTTError]] = {
    9: CertificateNotYetValid,
    10: CertificateExpired,
    62: HostNameMismatch,
    63: HostNameMismatch,
    64: HostNameMismatch,
}


def classify(error: BaseException, stage: Stage) -> Finding:
    """Return what an error shows that came up in `stage`."""
    if isinstance(error, MemoryError):
        return Finding(OutOfMemory)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_verification(error)
    if isinstance(error, ssl.SSLError):
        return _of_openssl(error, stage)
    if not isinstance(error, OSError):
        return Finding(HandshakeFailed if stage == "handshake" else None, str(error))
    if error.errno == errno.ENOMEM:
        return Finding(OutOfMemory, error.errno)
    silent = isinstance(error, TimeoutError) and stage != "resolve"
    return _told(TimedOut if silent else of_system(error.errno, stage), error.errno, stage)


def _of_verification(error: ssl.SSLCertVerificationError) -> Finding:
    if error.verify_code in _UNTRUSTED:
        return Finding(UnknownCA, error.verify_message)
    found = _VERIFIED.get(error.verify_code)
    if found is None:
        return Finding(HandshakeFailed, error.verify_message, variant="certificate")
    return Finding(found, error.verify_message)


def _of_openssl(error: ssl.SSLError, stage: Stage) -> Finding:
    reason = error.reason or ""
    # Within a session an alert refuses nothing any more. "Decode error" is what OpenSSL answers to
    # an end of input in the middle of anything.
    ended = stage == "session" or "EOF" in reason or reason.endswith("ALERT_DECODE_ERROR")
    if ended or isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _told(ConnectionLost, reason or str(error), stage)
    if "_ALERT_" in reason or reason.endswith("UNRECOGNIZED_NAME"):
        for name, number in _ALERTS.items():
            if reason.endswith(name):
                return Finding(HandshakeFailed, reason, alert=number, refused=True)
    if "MALLOC" in reason:
        return Finding(OutOfMemory, reason)
    if reason in _NOT_TLS:
        return Finding(NotTLS, reason)
    return Finding(
        TLSVersionTooOld if reason in _TOO_OLD else HandshakeFailed, reason or str(error)
    )


def _told(error: type[SecureMQTTError], code: object, stage: Stage) -> Finding:
    return Finding(error, code, unsaid=error is ConnectionLost and stage in _UNSAID)
