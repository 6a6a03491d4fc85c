"""What is wrong with a certificate or key that the TLS library would not load.

Part of the diagnosis.
"""

from ._compat import TLS, TYPE_CHECKING
from .diagnose import explain

if TYPE_CHECKING:
    from .errors import SecureMQTTError


def unreadable(path: str, content: bytes, text: str) -> "SecureMQTTError":
    """See failure.unreadable. A board takes DER, a Pi takes PEM."""
    board = TLS == "mbedtls"
    key = "_key" if "key" in text.lower() else ""
    size = _der_size(content)
    if b"-----BEGIN" in content:
        if board:
            variant = "encrypted" if b"ENCRYPTED" in content else "pem" + key
            return explain("WrongEncoding", path + " is PEM, and DER is needed here", text, variant)
        if content.count(b"-----BEGIN") > content.count(b"-----END"):
            return explain(
                "FileTruncated", path + " is cut off: the line with -----END is missing", text
            )
    elif size > len(content):
        return explain(
            "FileTruncated",
            "{} is cut off: {} of {} bytes are there".format(path, len(content), size),
            text,
        )
    elif size and not board:
        return explain("WrongEncoding", path + " is DER, and PEM is needed here", text, "der" + key)
    return explain("WrongEncoding", path + " is damaged, or not what its name says", text, "other")


def _der_size(content: bytes) -> int:
    """Return how long a file in DER should be, 0 if it is none: all certificates and keys are a
    SEQUENCE.
    """
    if content[:1] != b"\x30" or len(content) < 4:
        return 0
    size = content[1]
    if size < 128:
        return 2 + size
    return 3 + content[2] if size == 0x81 else 4 + (content[2] << 8 | content[3])
