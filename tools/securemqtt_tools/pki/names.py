"""Names that certificates may carry: device ids, host names, IP addresses.

Nothing else is taken.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from cryptography import x509

from securemqtt.protocol.topics import valid_id
from securemqtt_tools.cli import FatalError

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST_HOST = 253  # RFC 1035 §2.3.4, as text without the final dot


def check_device_id(device_id: str) -> str:
    """Return `device_id` back if it may name a device: 1 to 64 of A-Z a-z 0-9 _ and -, so no `/`,
    `+` or `#`, and no - at the start.

    Raise FatalError otherwise: the id becomes a topic level and must not lead out of the device's
    own prefix.
    """
    if not valid_id(device_id):
        raise FatalError(
            f"{device_id!r} is no device id: use 1 to 64 of the characters A-Z a-z 0-9 _ -, "
            "the first of them no -"
        )
    return device_id


def server_name(text: str) -> x509.GeneralName:
    """Turn a host name or an IP address into a subject alternative name.

    Raise FatalError when it is neither, or written as no client compares it: with brackets, a zone
    (`%eth0`), a dot at its end.
    """
    bare = text.strip("[]").partition("%")[0].rstrip(".")
    if bare and bare != text and _is_name(bare):
        raise FatalError(f"{text!r} is never what a certificate is compared with: write {bare}")
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    host = text.lower()
    if not host.isascii():
        raise FatalError(f"{text!r} is not ASCII: give an international name in its xn-- form")
    if not _is_host(host):
        raise FatalError(
            f"{text!r} is neither a host name nor an IP address: name the server as devices will, "
            f"without a port or *"
        )
    return x509.DNSName(host)


def _is_host(host: str) -> bool:
    labels = host.split(".")
    # 300.1.1.1 is a mistyped address, and no top-level domain is a number
    return (
        len(host) <= _LONGEST_HOST
        and not labels[-1].isdigit()
        and all(_LABEL.fullmatch(label) for label in labels)
    )


def _is_name(text: str) -> bool:
    """Return True for a host name or an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _is_host(text.lower())
    return True


def server_names(texts: Iterable[str]) -> list[x509.GeneralName]:
    """Turn names and addresses into subject alternative names, each once.

    Raise FatalError for none or a bad one.
    """
    names = list(dict.fromkeys(server_name(text) for text in texts))
    if not names:
        raise FatalError("a server's certificate needs at least one host name or IP address")
    return names


def name_text(name: x509.GeneralName) -> str:
    """Return a subject alternative name as the text a person would type."""
    return str(name.value)


def serial_text(serial: int) -> str:
    """Return a serial number as openssl prints it: capital hex digits, an even number of them."""
    digits = f"{serial:X}"
    return digits.zfill(len(digits) + len(digits) % 2)
