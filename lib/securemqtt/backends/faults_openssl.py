"""What OpenSSL and CPython's sockets mean by their errors. Part of the diagnosis."""

from __future__ import annotations

import errno
import ssl

# Where an error may hide what the broker has said: TLS 1.3 lets us go on before the broker has
# looked at our certificate.
UNSAID = ("handshake", "connack")
# OpenSSL says which alert it was, so it has no code for one that is not known.
FATAL_ALERT = None

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
_VERIFIED = {9: "future", 10: "expired", 62: "name", 63: "name", 64: "name"}


def classify(error: BaseException, stage: str) -> tuple[str, object, int | None]:
    """Name the kind of fault (see diagnose.py; "system" for an errno, "" for a mistake in the
    program): kind, raw code, TLS alert.
    """
    if isinstance(error, MemoryError):
        return "memory", None, None
    if isinstance(error, ssl.SSLCertVerificationError):
        kind = (
            "untrusted"
            if error.verify_code in _UNTRUSTED
            else _VERIFIED.get(error.verify_code, "certificate")
        )
        return kind, error.verify_message, None
    if isinstance(error, ssl.SSLError):
        return _of_openssl(error, stage)
    if isinstance(error, OSError):
        return ("memory" if error.errno == errno.ENOMEM else "system"), error.errno, None
    return ("other" if stage == "handshake" else ""), str(error), None


def _of_openssl(error: ssl.SSLError, stage: str) -> tuple[str, object, int | None]:
    reason = error.reason or ""
    # Within a session an alert refuses nothing any more. "Decode error" is what OpenSSL answers to
    # an end of input in the middle of anything.
    ended = stage == "session" or "EOF" in reason or reason.endswith("ALERT_DECODE_ERROR")
    if ended or isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "closed", reason or str(error), None
    if "_ALERT_" in reason or reason.endswith("UNRECOGNIZED_NAME"):
        for name, number in _ALERTS.items():
            if reason.endswith(name):
                return "alert", reason, number
    if "MALLOC" in reason:
        return "memory", reason, None
    if reason in _NOT_TLS:
        return "plain", reason, None
    return ("version" if reason in _TOO_OLD else "other"), reason or str(error), None


def offline() -> bool:
    """Return True if Wi-Fi is known to be off: on a Pi that is the system's affair."""
    return False
