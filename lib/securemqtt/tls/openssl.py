"""TLS on CPython: the context of a device, and what is wrong with its files.

Verification is what `ssl.PROTOCOL_TLS_CLIENT` starts with, CERT_REQUIRED and check_hostname;
nothing here turns it down. Two flags were weighed. VERIFY_X509_PARTIAL_CHAIN is set: what the
bundle calls a trust anchor is one, an intermediate too, as under mbedTLS on a board.
VERIFY_X509_STRICT is not: it refuses brokers' certificates for their form alone (older recipes
leave out the authority key identifier), which mbedTLS accepts, and adds no check of a signature,
date or name.

A context is made once for a device's link and never changed, so a TLS session kept with it is never
offered under another trust or identity.
"""

from __future__ import annotations

import re
import ssl
import tempfile
from typing import Any

from .. import bundle
from ..errors import (
    BundleError,
    FileTruncated,
    KeyMismatch,
    UsageError,
    WrongEncoding,
    WrongKeyPassword,
)
from ..settings import Settings

# TLS 1.2 with forward secrecy and AEAD only (RFC 9325, section 4.2). Those of TLS 1.3 are all of
# that kind.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CERTIFICATES = re.compile(
    rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\s*", re.DOTALL
)
# OpenSSL takes passphrases of up to 1,023 bytes.
_PASSWORD_BYTES = 1023


def make_context(settings: Settings) -> ssl.SSLContext:
    """Return the context of a device: TLS 1.2 at least, the broker verified, our identity loaded.

    Raise UsageError, or BundleError for what is wrong with a file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # A name counts where the CA has vouched for it, which is the SAN (RFC 9525, section 2).
    context.hostname_checks_common_name = False
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Some Pythons (Debian 12's for one) set it, and take a connection that was cut for one that the
    # peer has ended: RFC 8446, section 6.1.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    alpn = settings.alpn
    if alpn:
        context.set_alpn_protocols([alpn] if isinstance(alpn, str) else list(alpn))
    _load_trust(context, settings)
    _load_identity(context, settings)
    return context


def _load_trust(context: ssl.SSLContext, settings: Settings) -> None:
    anchors = bundle.names(settings.ca)
    if settings.system_trust:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    elif not anchors:
        raise UsageError(
            "the bundle names no CA, and system_trust is off: the broker could not be verified"
        )
    for name in anchors:
        path = bundle.path_of(settings.path, name)
        content = bundle.read(settings.path, name)
        bundle.check_protected(path)
        if bundle.is_pem(content) and not bundle.is_whole_pem(content):
            raise bundle.unreadable(path, content, "no whole CERTIFICATE")
        try:
            context.load_verify_locations(
                cadata=_pem(content) if bundle.is_pem(content) else content
            )
        except (ssl.SSLError, ValueError) as error:  # UnicodeDecodeError is a ValueError
            raise bundle.unreadable(path, content, str(error)) from error


def _load_identity(context: ssl.SSLContext, settings: Settings) -> None:
    names = bundle.names(settings.certificate)
    if not names:
        bundle.check_without_certificate(settings)
        return
    if settings.key is None:
        raise UsageError("the bundle names a certificate, but no key")
    key_path = bundle.path_of(settings.path, settings.key)
    key = bundle.read(settings.path, settings.key)
    bundle.check_private(key_path)
    _require_pem(key_path, key, "PRIVATE KEY")
    if key.startswith(bundle.BYTE_ORDER_MARK):  # OpenSSL reads the file itself, and finds no key
        what = f"{key_path} begins with a byte order mark, as some editors write it"
        raise WrongEncoding(what, variant="mark", about=key_path)
    chain = b""
    for name in names:
        path = bundle.path_of(settings.path, name)
        content = bundle.read(settings.path, name)
        bundle.check_protected(path)
        _require_pem(path, content, "CERTIFICATE")
        chain += _pem(content).encode()
    password = _Password(key_path, settings.key_password)
    # OpenSSL takes the chain from one file; a bundle may have several. Certificates are public, so
    # a copy may be made.
    with tempfile.NamedTemporaryFile(suffix=".pem") as copy:
        copy.write(chain)
        copy.flush()
        try:
            context.load_cert_chain(copy.name, key_path, password)
        except ssl.SSLError as error:
            certificate_path = bundle.path_of(settings.path, names[0])
            raise _unusable(error, password.asked, certificate_path, key_path) from error


def _pem(content: bytes) -> str:
    """Return the certificates of a file in PEM, without the comments around them, which may be in
    any encoding, and without a byte order mark. Raise UnicodeDecodeError.
    """
    return b"\n".join(_CERTIFICATES.findall(content)).decode("ascii") + "\n"


class _Password:
    """What OpenSSL calls for the key's password; else it would prompt on the terminal."""

    def __init__(self, path: str, secret: Any) -> None:
        self._path = path
        self._secret = secret
        self.asked = False

    def __call__(self) -> str | bytes | bytearray:
        self.asked = True
        path = self._path
        secret = self._secret() if callable(self._secret) else self._secret
        if not secret:
            raise WrongKeyPassword(
                f"{path} is encrypted, and no key_password was given", about=path
            )
        if not isinstance(secret, (str, bytes, bytearray)):
            raise UsageError(
                "key_password must be str, bytes, or a function that gives one of them"
            )
        size = len(secret.encode()) if isinstance(secret, str) else len(secret)
        if size > _PASSWORD_BYTES:
            raise WrongKeyPassword(
                f"the password for {path} is longer than {_PASSWORD_BYTES} bytes", about=path
            )
        return secret


def _unusable(error: ssl.SSLError, asked: bool, certificate: str, key: str) -> BundleError:
    """Return why OpenSSL did not take certificate and key, both of which are whole PEM."""
    reason = error.reason or str(error)
    if "MISMATCH" in reason or reason == "NO_CERTIFICATE_ASSIGNED":
        return KeyMismatch(f"{key} is not the key of {certificate}", reason, about=key)
    if asked:
        what = f"{key} does not open with the key_password given"
        return WrongKeyPassword(what, reason, about=key)
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        what = f"{certificate} or {key} is weaker than OpenSSL permits here"
        return BundleError(what, reason, about=key)
    return FileTruncated(f"{certificate} or {key} is damaged", reason, about=key)


def _require_pem(path: str, content: bytes, label: str) -> None:
    if not bundle.is_whole_pem(content) or label.encode() not in content:
        raise bundle.unreadable(path, content, f"no {label}")
