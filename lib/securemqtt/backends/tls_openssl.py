"""TLS on CPython: the context of a device, and what is wrong with its files in words.

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

from .. import files
from ..errors import SecureMQTTError
from ..failure import failure, unreadable

# TLS 1.2 with forward secrecy and AEAD only (RFC 9325, section 4.2). Those of TLS 1.3 are all of
# that kind.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CERTIFICATES = re.compile(
    rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\s*", re.DOTALL
)
# OpenSSL takes passphrases of up to 1,023 bytes.
_PASSWORD_BYTES = 1023


def make_context(settings: dict[str, Any]) -> ssl.SSLContext:
    """Make the context of a device: TLS 1.2 at least, the broker verified, our identity loaded.

    Raises UsageError, or BundleError's kinds for what is wrong with a file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    alpn = settings["alpn"]
    if alpn:
        context.set_alpn_protocols([alpn] if isinstance(alpn, str) else list(alpn))
    _load_trust(context, settings)
    _load_identity(context, settings)
    return context


def _load_trust(context: ssl.SSLContext, settings: dict[str, Any]) -> None:
    anchors = files.names(settings["ca"])
    if settings["system_trust"]:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    elif not anchors:
        raise failure(
            "UsageError",
            "the bundle names no CA, and system_trust is off: the broker could not be verified",
        )
    for name in anchors:
        content = files.read(settings["path"], name)
        try:
            context.load_verify_locations(
                cadata=content.decode("ascii") if _is_pem(content) else content
            )
        except (ssl.SSLError, ValueError) as error:  # UnicodeDecodeError is a ValueError
            raise unreadable(
                files.full_name(settings["path"], name), content, str(error)
            ) from error


def _load_identity(context: ssl.SSLContext, settings: dict[str, Any]) -> None:
    directory = settings["path"]
    names = files.names(settings["certificate"])
    if not names:
        return
    if settings["key"] is None:
        raise failure("UsageError", "the bundle names a certificate, but no key")
    key_path = files.full_name(directory, settings["key"])
    key = files.read(directory, settings["key"])
    files.check_private(key_path)
    _require_pem(key_path, key, "PRIVATE KEY")
    chain = b""
    for name in names:
        path = files.full_name(directory, name)
        content = files.read(directory, name)
        _require_pem(path, content, "CERTIFICATE")
        chain += b"".join(_CERTIFICATES.findall(content)) + b"\n"
    password = _Password(key_path, settings["key_password"])
    # OpenSSL takes the chain from one file; a bundle may have several. Certificates are public, so
    # a copy may be made.
    with tempfile.NamedTemporaryFile(suffix=".pem") as copy:
        copy.write(chain)
        copy.flush()
        try:
            context.load_cert_chain(copy.name, key_path, password)
        except ssl.SSLError as error:
            raise _unusable(
                error, password.asked, files.full_name(directory, names[0]), key_path
            ) from error


class _Password:
    """Gives OpenSSL the key's password when it asks; without this it would prompt on the
    terminal.
    """

    def __init__(self, path: str, secret: Any) -> None:
        self._path = path
        self._secret = secret
        self.asked = False

    def __call__(self) -> str | bytes | bytearray:
        self.asked = True
        secret = self._secret() if callable(self._secret) else self._secret
        if not secret:
            raise failure(
                "WrongKeyPassword", f"{self._path} is encrypted, and no key_password was given"
            )
        if not isinstance(secret, (str, bytes, bytearray)):
            raise failure(
                "UsageError",
                "key_password must be str, bytes, or a function that gives one of them",
            )
        size = len(secret.encode()) if isinstance(secret, str) else len(secret)
        if size > _PASSWORD_BYTES:
            raise failure(
                "WrongKeyPassword",
                f"the password for {self._path} is longer than {_PASSWORD_BYTES} bytes",
            )
        return secret


def _unusable(error: ssl.SSLError, asked: bool, certificate: str, key: str) -> SecureMQTTError:
    """Say why OpenSSL did not take certificate and key, both of which are whole PEM."""
    reason = error.reason or str(error)
    if "MISMATCH" in reason or reason == "NO_CERTIFICATE_ASSIGNED":
        return failure("KeyMismatch", f"{key} is not the key of {certificate}", reason)
    if asked:
        return failure(
            "WrongKeyPassword", f"{key} does not open with the key_password given", reason
        )
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        return failure(
            "BundleError", f"{certificate} or {key} is weaker than OpenSSL permits here", reason
        )
    return failure("FileTruncated", f"{certificate} or {key} is damaged", reason)


def _require_pem(path: str, content: bytes, label: str) -> None:
    whole = _is_pem(content) and content.count(b"-----BEGIN") == content.count(b"-----END")
    if not whole or label.encode() not in content:
        raise unreadable(path, content, f"no {label}")


def _is_pem(content: bytes) -> bool:
    return b"-----BEGIN " in content
