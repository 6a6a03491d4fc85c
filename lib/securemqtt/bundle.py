"""The device bundle on disk: where it is, its files, and what is wrong with one.

Its format is in docs/ARCHITECTURE.md. A board takes DER, a computer PEM; certificates and keys in
DER are a SEQUENCE each.
"""

import binascii
import os

from .log import printable
from .platform import TAKES_DER, bundle_places, const, is_credential, unix_time
from .settings import EARLIEST_S

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any, Literal

    from .errors import BundleError, SecureMQTTError
    from .settings import Settings

_BEGIN = b"-----BEGIN"
_END = b"-----END"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
# The public half at the end of an EC key (RFC 5915): a BIT STRING with an uncompressed point. By
# the size of a coordinate in bytes: P-256 and P-384.
_POINTS = ((32, b"\x03\x42\0\x04"), (48, b"\x03\x62\0\x04"))
# In an RSA key (RFC 8017, appendix A.1.2) the modulus follows the version; its first 64 bytes say
# enough.
_RSA_VERSION = b"\x02\x01\0\x02\x82"
# Tags in DER: [0] and UTCTime.
_VERSION = const(0xA0)
_UTC_TIME = const(0x17)
# To the first day of 1970 from the last one of February in the year 0.
_DAYS_TO_1970 = const(719469)


def find(path: "str | None") -> str:
    """Return the bundle's directory: `path`, else the first of the usual places that has one.

    Raise BundleNotFound.
    """
    places = [path] if path else bundle_places()
    for place in places:
        if exists(place + "/config.json"):
            return place
    from .errors import BundleNotFound

    raise BundleNotFound("no config.json in {}".format(" or ".join(places)))


def read(directory: str, name: object, kind: "Literal['', 'password']" = "") -> bytes:
    """Read one file of the bundle whole. Raise FileMissing, or FileTruncated if it is empty."""
    path = path_of(directory, name)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        from .errors import FileMissing

        shown = printable(path)
        raise FileMissing(shown + " cannot be read", error.errno, kind, shown)
    if not content:
        from .errors import FileTruncated

        raise FileTruncated(path + " is empty", about=path)
    return content


def read_json(directory: str, name: str) -> "dict[str, Any]":
    """Read one file of the bundle that holds a JSON object. Raise FileMissing, FileTruncated."""
    from .messages import decode

    try:
        content = decode(_without_mark(read(directory, name)))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        from .errors import FileTruncated

        path = path_of(directory, name)
        raise FileTruncated(path + " is not a whole JSON object", about=path)
    return content


def read_password(directory: str, name: str) -> str:
    """Read a password from an owner-only file; the end of its line is no part of it."""
    path = path_of(directory, name)
    check_private(path, "password")
    try:
        return _without_mark(read(directory, name, "password")).decode().rstrip("\r\n")
    except ValueError:
        from .errors import FileTruncated

        raise FileTruncated(path + " is not UTF-8", about=path)


def _without_mark(content: bytes) -> bytes:
    """Return text in UTF-8 without the byte order mark that some editors put before it."""
    return content[len(BYTE_ORDER_MARK) :] if content.startswith(BYTE_ORDER_MARK) else content


def check_private(path: str, kind: "Literal['', 'password']" = "") -> None:
    """Raise FileNotPrivate if others than its owner may read or change a file with a secret.

    A board's files have no owner.
    """
    mode = _mode(path, kind)
    # The group of a credential of systemd's stands for its one reader, who has an entry of his own
    # in its access control list.
    if mode & (0o037 if is_credential(path) else 0o077):
        from .errors import FileNotPrivate

        what = path + " is open to others than its owner"
        raise FileNotPrivate(what, "{:04o}".format(mode), about=path)


def check_protected(path: str) -> None:
    """Raise FileNotPrivate if others than its owner may change a file, or what is in a directory.

    They could put a CA of their own there. A board's files have no owner.
    """
    mode = 0 if TAKES_DER else _mode(path)
    if mode & 0o022:
        from .errors import FileNotPrivate

        what = path + " can be changed by others than its owner"
        raise FileNotPrivate(what, "{:04o}".format(mode), "writable", path)


def _mode(path: str, kind: "Literal['', 'password']" = "") -> int:
    try:
        return os.stat(path)[0] & 0o777
    except OSError as error:
        from .errors import FileMissing

        raise FileMissing(path + " cannot be read", error.errno, kind, path)


def path_of(directory: str, name: object) -> str:
    """Return the path of a file that config.json names: relative to the bundle unless absolute."""
    text = str(name)
    return text if text[:1] == "/" or not directory else directory + "/" + text


def names(value: "Any") -> "list[str]":
    """Return the files that an entry of config.json lists: one name or a list of names."""
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)


def is_directory(path: str) -> bool:
    """Return True if there is a directory of this name."""
    try:
        return os.stat(path)[0] & 0xF000 == 0x4000
    except OSError:
        return False


def exists(path: str) -> bool:
    """Return True if there is a file, or directory, of this name."""
    try:
        os.stat(path)
    except OSError:
        return False
    return True


# What a certificate or key shows


def own_certificate(settings: "Settings") -> bytes:
    """Return this device's certificate in DER, nothing if it has none. Raise FileMissing."""
    own = names(settings.certificate)
    if not own:
        return b""
    content = read(settings.path, own[0])
    start = content.find(_BEGIN_CERTIFICATE)
    if start < 0:
        return content
    return binascii.a2b_base64(content[start + len(_BEGIN_CERTIFICATE) : content.find(_END, start)])


def check_without_certificate(settings: "Settings") -> None:
    """Raise UsageError where a device has no certificate to show, unless user name and password
    were given in its place, so that it was meant.
    """
    if settings.key is None and settings.username is not None and settings.password is not None:
        return
    from .errors import UsageError

    if settings.key is not None:
        raise UsageError("a key is given, but no certificate")
    what = "there is no certificate by which the broker could know this device: give certificate"
    raise UsageError(what + " and key, or, where it goes by passwords, username and password")


def not_after(certificate: bytes) -> str:
    """Return when a certificate in DER ends: YYYYMMDDhhmmss in UTC, nothing if it is not found.

    In the certificate is what was signed, and in that come a version (which the first one lacks),
    serial number, algorithm, issuer, and the two times (RFC 5280, section 4.1).
    """
    try:
        at = _element(certificate, _element(certificate, 0)[0])[0]
        for _ in range(4 if certificate[at] == _VERSION else 3):
            at = _element(certificate, at)[1]
        at = _element(certificate, _element(certificate, at)[0])[1]
        begin, end = _element(certificate, at)
        text = certificate[begin:end].decode()
        if certificate[at] == _UTC_TIME:  # without the century: 1950 to 2049
            text = ("19" if text[:2] >= "50" else "20") + text
        int(text[:14])
        return text[:14] if text[14:] == "Z" else ""
    except (IndexError, ValueError):
        return ""


def _element(content: bytes, at: int) -> "tuple[int, int]":
    """Return where the content of the element at `at` in DER begins and ends. Raise IndexError."""
    size = content[at + 1]
    at += 2
    if size > 128:
        count = size - 128
        size = int.from_bytes(content[at : at + count], "big")
        at += count
    if at + size > len(content):
        raise IndexError
    return at, at + size


def ended_on(certificate: bytes) -> str:
    """Return the day on which a certificate ended, as YYYY-MM-DD; nothing if it has not.

    Judged by this device's clock, which may be wrong.
    """
    end = not_after(certificate)
    return day_of(end) if end and seconds_left(end) < 0 else ""


def day_of(end: str) -> str:
    """Return what `not_after` gave as YYYY-MM-DD."""
    return "-".join((end[:4], end[4:6], end[6:8]))


def seconds_left(end: str) -> int:
    """Return in how many seconds it will be what `not_after` gave, by this device's clock."""
    year, month, day = int(end[:4]), int(end[4:6]), int(end[6:8])
    # Years that begin in March, so that the leap day is the last one.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day
    seconds = int(end[8:10]) * 3600 + int(end[10:12]) * 60 + int(end[12:14])
    return (days - _DAYS_TO_1970) * 86400 + seconds - unix_time()


def days_left(settings: "Settings") -> "tuple[int | None, SecureMQTTError | None]":
    """Return for how many days this device's certificate is valid, and a warning if that is less
    than certificate_warning_days; None where there is none, or the clock is plainly wrong.

    A certificate that cannot be read any more is a warning, too.
    """
    try:
        end = _own_end(settings)
    except Exception as error:  # it is loaded already, but the next start will not find it
        from .errors import BundleError  # only now: it stays in a board's memory

        if isinstance(error, BundleError):
            return None, error
        raise
    if not end:
        return None, None
    left_s = seconds_left(end)
    days = left_s // 86400
    if left_s > settings.certificate_warning_days * 86400:
        return days, None
    from .errors import ClientCertificateExpiring

    name = settings.client_id
    what = "the certificate of {} ends on {}, {} days from now".format(name, day_of(end), days)
    if left_s < 0:
        what = "the certificate of {} ended on {}".format(name, day_of(end))
    return days, ClientCertificateExpiring(what, about=name)


def check_not_ended(settings: "Settings") -> None:
    """Raise ClientCertificateExpired if this device's certificate has ended, by a clock that is not
    plainly wrong; BundleError if it cannot be read.
    """
    end = _own_end(settings)
    if end and seconds_left(end) < 0:
        from .errors import ClientCertificateExpired

        what = "the certificate of {} ended on {}".format(settings.client_id, day_of(end))
        raise ClientCertificateExpired(what)


def _own_end(settings: "Settings") -> str:
    if unix_time() < max(settings.clock_floor, EARLIEST_S):
        return ""
    try:
        return not_after(own_certificate(settings))
    except ValueError:  # no Base64: TLS does without what stands before it
        return ""


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


# What is wrong with one that the TLS library did not take


def is_pem(content: bytes) -> bool:
    """Return True if a file has at least the beginning of something in PEM."""
    return _BEGIN in content


def is_whole_pem(content: bytes) -> bool:
    """Return True if all that begins in PEM ends, too."""
    return 0 < content.count(_BEGIN) == content.count(_END)


def unreadable(path: str, content: bytes, text: str) -> "BundleError":
    """Return the error of a certificate or key that the TLS library did not load, saying `text`."""
    from .errors import FileTruncated, WrongEncoding

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
