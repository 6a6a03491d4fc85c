"""The TLS context of a device on MicroPython. Made once, see `_compat.rarely`; the way to a
connection is in tls_mbedtls.py.

Only `tls.SSLContext` is used: the Python wrapper `ssl.SSLContext` starts without verification. TLS
1.2 is what MicroPython speaks; its build of mbedTLS has ECDHE with AEAD and with CBC, and the
broker's configuration picks AEAD (RFC 9325, section 4.2).
"""

import tls

from .. import files
from .._compat import TYPE_CHECKING, rarely
from ..failure import failure, unreadable

if TYPE_CHECKING:
    from typing import Any


def make_context(settings: "dict[str, Any]") -> "Any":
    """Make the context of a device: verification on, its trust anchors and its identity loaded.

    Raises BundleError's kinds, NotSupported.
    """
    for option, value in (
        ("alpn", settings["alpn"]),
        ("system_trust", settings["system_trust"]),
        ("key_password", settings["key_password"]),
    ):
        if value:
            raise failure("NotSupported", "MicroPython has no " + option)
    if settings["transport"] != "tls":
        raise failure("NotSupported", "MicroPython has no transport but tls")
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    directory = settings["path"]
    anchors = files.names(settings["ca"])
    if not anchors:
        raise failure("UsageError", "the bundle names no CA: the broker could not be verified")
    for name in anchors:
        _load(directory, name, context.load_verify_locations)
    chain = files.names(settings["certificate"])
    if chain:
        key = files.read(directory, settings["key"])
        for name in chain:
            _load(
                directory,
                name,
                lambda certificate: context.load_cert_chain(certificate, key),
                settings["key"],
            )
        rarely("backends.keys_mbedtls").check(settings, key)
    return context


def _load(directory: str, name: str, load: "Any", key: str = "") -> None:
    content = files.read(directory, name)
    try:
        load(content)
    except ValueError as error:
        if "key" in str(error):
            name, content = key, files.read(directory, key)
        raise unreadable(files.full_name(directory, name), content, str(error))
