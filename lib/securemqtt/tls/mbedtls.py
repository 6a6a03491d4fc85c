"""TLS on MicroPython: the context of a device.

Only `tls.SSLContext` is used: the Python wrapper `ssl.SSLContext` starts without verification.

One thing that CPython refuses cannot be refused here: mbedTLS takes the common name of a
certificate that has no alternative names for the broker's, and MicroPython has no `getpeercert`.
"""

import tls

from .. import bundle
from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

    from ..settings import Settings


# With TLS 1.2, which is what most boards speak, forward secrecy and AEAD only (RFC 9325, section
# 4.2): without a list mbedTLS takes static RSA and CBC too, from a broker that has nothing else.
# Those of TLS 1.3 are all of that kind.
_SUITES = (
    "TLS1-3-AES-128-GCM-SHA256",
    "TLS1-3-AES-256-GCM-SHA384",
    "TLS1-3-CHACHA20-POLY1305-SHA256",
    "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
    "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256",
    "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
    "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
    "TLS-ECDHE-RSA-WITH-CHACHA20-POLY1305-SHA256",
)


def make_context(settings: "Settings") -> "Any":
    """Return the context of a device: the broker verified, its trust and its identity loaded.

    Raise NotSupported, UsageError, or BundleError for what is wrong with a file.
    """
    for name, value in (
        ("alpn", settings.alpn),
        ("system_trust: give that CA's root as DER in ca", settings.system_trust),
        ("key_password", settings.key_password),
        ("transport but tls", settings.transport != "tls"),
    ):
        if value:
            from ..errors import NotSupported

            raise NotSupported("MicroPython has no " + name)
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    _restrict_suites(context)
    _load_trust(context, settings)
    _load_identity(context, settings)
    return context


def _restrict_suites(context: "Any") -> None:
    """Have a context offer those of `_SUITES` that this build of mbedTLS has.

    Each is tried, since it refuses a list with a name that it does not know, and `get_ciphers`
    would put the names of all the others into the heap.
    """
    known = []
    for name in _SUITES:
        try:
            context.set_ciphers([name])
        except OSError:
            continue
        known.append(name)
    if not known:
        from ..errors import NotSupported

        raise NotSupported("this MicroPython has no cipher suite with ECDHE and AEAD")
    context.set_ciphers(known)


def _load_trust(context: "Any", settings: "Settings") -> None:
    anchors = bundle.names(settings.ca)
    if not anchors:
        from ..errors import UsageError

        raise UsageError("the bundle names no CA: the broker could not be verified")
    for name in anchors:
        content = bundle.read(settings.path, name)
        try:
            context.load_verify_locations(content)
        except ValueError as error:
            raise bundle.unreadable(bundle.path_of(settings.path, name), content, str(error))


def _load_identity(context: "Any", settings: "Settings") -> None:
    names = bundle.names(settings.certificate)
    if not names:
        bundle.check_without_certificate(settings)
        return
    if settings.key is None:
        from ..errors import UsageError

        raise UsageError("the bundle names a certificate, but no key")
    key_path = bundle.path_of(settings.path, settings.key)
    key = bundle.read(settings.path, settings.key)
    for name in names:
        path = bundle.path_of(settings.path, name)
        certificate = bundle.read(settings.path, name)
        try:
            context.load_cert_chain(certificate, key)
        except ValueError as error:
            text = str(error)
            if "key" in text:
                raise bundle.unreadable(key_path, key, text)
            raise bundle.unreadable(path, certificate, text)
        if name == names[0] and not bundle.key_fits(key, certificate):
            from ..errors import KeyMismatch

            raise KeyMismatch(key_path + " is not the key of " + path, about=key_path)
