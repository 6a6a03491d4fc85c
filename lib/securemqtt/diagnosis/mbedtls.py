"""What mbedTLS and MicroPython's sockets mean by their errors."""

from ..errors import (
    CertificateExpired,
    CertificateNotYetValid,
    ConnectionLost,
    HandshakeFailed,
    HostNameMismatch,
    NotTLS,
    OutOfMemory,
    TLSVersionTooOld,
    UnknownCA,
    WiFiNotConnected,
)
from ..platform import const
from .finding import Finding, of_system

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..errors import SecureMQTTError
    from .finding import Stage

_ENOMEM = const(12)
# The peer ended the handshake with an alert; mbedTLS does not tell which.
_FATAL_ALERT = const(-30592)
_X509_VERIFY_FAILED = const(0x2700)
_BAD_PROTOCOL_VERSION = const(0x6E80)
_INVALID_RECORD = const(0x7200)
_MPI_ALLOC_FAILED = const(0x10)
# ssl, X.509, pk, ecp, md, cipher: a module's own code is a multiple of 0x80, and what it met
# further down stands in the low bits.
_ALLOC_FAILED = (0x7F00, 0x2880, 0x3F80, 0x4D80, 0x5180, 0x6180)

# In the order of what weighs most, where mbedTLS finds several things at once.
_TEXTS: "tuple[tuple[str, type[SecureMQTTError]], ...]" = (
    ("trusted CA", UnknownCA),
    ("Common Name", HostNameMismatch),
    ("future", CertificateNotYetValid),
    ("expired", CertificateExpired),
)


def classify(error: BaseException, stage: "Stage") -> Finding:
    """Return what an error shows that came up in `stage`."""
    if isinstance(error, MemoryError):
        return Finding(OutOfMemory)
    if isinstance(error, OSError):
        return _of_code(error.errno, stage)
    text = str(error).strip()
    if stage != "handshake":
        return Finding(None, text)
    for part, found in _TEXTS:
        if part in text:
            return Finding(found, text)
    return Finding(HandshakeFailed, text, "certificate" if "certificate" in text else "")


def _of_code(code: object, stage: "Stage") -> Finding:
    if not isinstance(code, int) or -128 < code < 0:  # the name resolver's, a text on some ports
        return _of_system(str(code).strip("[]"), stage)
    high = -code & 0x7F80 if code < 0 else 0
    if code == _ENOMEM or high in _ALLOC_FAILED or (high and -code & 0x7F == _MPI_ALLOC_FAILED):
        return Finding(OutOfMemory, code)
    if not high:
        return _of_system(code, stage)
    if high == _X509_VERIFY_FAILED:
        return Finding(HandshakeFailed, code, "certificate")
    if high == _BAD_PROTOCOL_VERSION:
        return Finding(TLSVersionTooOld, code)
    if high == _INVALID_RECORD and stage == "handshake":
        return Finding(NotTLS, code)
    return _lost(code, stage)


def _of_system(code: object, stage: "Stage") -> Finding:
    if _offline():
        return Finding(WiFiNotConnected, code)
    found = of_system(code, stage)
    return _lost(code, stage) if found is ConnectionLost else Finding(found, code)


def _lost(code: object, stage: "Stage") -> Finding:
    """Return the finding of a connection that ended, which in a handshake the broker did.

    It may have sent an alert then: mbedTLS does not tell which, and a write that failed has read
    none. Later there is nothing left to be said: with TLS 1.2 certificates are settled by then.
    """
    handshake = stage == "handshake"
    return Finding(
        ConnectionLost, code, refused=handshake and code == _FATAL_ALERT, unsaid=handshake
    )


def _offline() -> bool:
    """Return True if this is a board whose Wi-Fi is not connected."""
    try:
        import network
    except ImportError:
        return False
    return not network.WLAN(network.STA_IF).isconnected()
