"""What mbedTLS and MicroPython's sockets mean by their errors.

Part of the diagnosis; not kept in a board's memory.
"""

from .._compat import TYPE_CHECKING, const

if TYPE_CHECKING:
    pass

# Where an error may hide what the broker has said: mbedTLS does not tell which alert came, and a
# write that failed has read none. After the handshake there is nothing left to be said: with TLS
# 1.2 certificates are settled by then.
UNSAID = ("handshake",)

# The code for an alert that ended the handshake.
FATAL_ALERT = -30592

_ENOMEM = const(12)
_X509_VERIFY_FAILED = const(0x2700)
_BAD_PROTOCOL_VERSION = const(0x6E80)
_INVALID_RECORD = const(0x7200)
_MPI_ALLOC_FAILED = const(0x10)
# ssl, X.509, pk, ecp, md, cipher: a module's own code is a multiple of 0x80, and what it met
# further down stands in the low bits.
_ALLOC_FAILED = (0x7F00, 0x2880, 0x3F80, 0x4D80, 0x5180, 0x6180)

# In the order of what weighs most, where mbedTLS finds several things at once.
_TEXTS = (
    ("trusted CA", "untrusted"),
    ("Common Name", "name"),
    ("future", "future"),
    ("expired", "expired"),
    ("certificate", "certificate"),
)


def classify(error: BaseException, stage: str) -> "tuple[str, object, int | None]":
    """Name the kind of fault (see diagnose.py; "system" for an errno, "" for a mistake in the
    program): kind, raw code, TLS alert.
    """
    if isinstance(error, MemoryError):
        return "memory", None, None
    if not isinstance(error, OSError):
        text = str(error).strip()
        if stage != "handshake":
            return "", text, None
        for part, kind in _TEXTS:
            if part in text:
                return kind, text, None
        return "other", text, None
    code = error.errno
    if not isinstance(code, int) or -128 < code < 0:  # the name resolver's, a text on some ports
        return "system", str(code).strip("[]"), None
    high = -code & 0x7F80 if code < 0 else 0
    if code == _ENOMEM or high in _ALLOC_FAILED or (high and -code & 0x7F == _MPI_ALLOC_FAILED):
        return "memory", code, None
    if not high:
        return "system", code, None
    if high == _X509_VERIFY_FAILED:
        return "certificate", code, None
    if high == _BAD_PROTOCOL_VERSION:
        return "version", code, None
    if high == _INVALID_RECORD and stage == "handshake":
        return "plain", code, None
    return "closed", code, None


def offline() -> bool:
    """Return True if this is a board whose Wi-Fi is not connected."""
    try:
        import network
    except ImportError:
        return False
    return not network.WLAN(network.STA_IF).isconnected()
