"""PEM and DER: what is wrong with a file that the TLS library did not take.

A board takes DER, a computer PEM. Certificates and keys in DER are a SEQUENCE each. A board loads
this module when something has failed.
"""

from ..platform import TAKES_DER, const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..errors import BundleError

_BEGIN = b"-----BEGIN"
_END = b"-----END"


def is_pem(content: bytes) -> bool:
    """Return True if a file has at least the beginning of something in PEM."""
    return _BEGIN in content


def is_whole_pem(content: bytes) -> bool:
    """Return True if all that begins in PEM ends, too."""
    return 0 < content.count(_BEGIN) == content.count(_END)


def unreadable(path: str, content: bytes, text: str) -> "BundleError":
    """Return the error of a certificate or key that the TLS library did not load, saying `text`."""
    from ..errors import FileTruncated, WrongEncoding

    is_key = "key" in text.lower()
    if is_pem(content):
        if TAKES_DER:
            what = path + " is PEM, and DER is needed here"
            if b"ENCRYPTED" in content:
                return WrongEncoding(what, text, "encrypted", path)
            return WrongEncoding(what, text, "pem_key" if is_key else "pem", path)
        if not is_whole_pem(content):
            what = path + " is cut off: the line with -----END is missing"
            return FileTruncated(what, text, about=path)
    else:
        size = _der_size(content)
        if size > len(content):
            what = "{} is cut off: {} of {} bytes are there".format(path, len(content), size)
            return FileTruncated(what, text, about=path)
        if size and not TAKES_DER:
            what = path + " is DER, and PEM is needed here"
            return WrongEncoding(what, text, "der_key" if is_key else "der", path)
    return WrongEncoding(path + " is damaged, or not what its name says", text, "other", path)


def _der_size(content: bytes) -> int:
    """Return how long a file in DER should be by its first bytes, 0 if it is none."""
    if content[:1] != b"\x30" or len(content) < 4:
        return 0
    size = content[1]
    if size < 128:
        return 2 + size
    return 3 + content[2] if size == 0x81 else 4 + (content[2] << 8 | content[3])
