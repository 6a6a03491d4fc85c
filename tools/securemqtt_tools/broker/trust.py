"""TLS towards a broker of ours, verified as a device verifies it."""

from __future__ import annotations

import ssl
from pathlib import Path

_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which CPython has no name for


def device_context(ca: Path) -> ssl.SSLContext:
    """Return a context that verifies chain, dates and name; raise OSError if there is no such file.

    As on a device a name counts only as subjectAltName, and a certificate is not refused for its
    form alone, which CPython does by itself from 3.13 on: one by `openssl req -x509` has no
    key usage. See lib/securemqtt/tls/openssl.py.
    """
    context = ssl.create_default_context(cafile=str(ca))
    context.hostname_checks_common_name = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def undated_context(ca: Path) -> ssl.SSLContext:
    """Return one that takes a certificate which has run out: a revocation must work, and the others
    stay connected, also while the broker shows one.
    """
    context = device_context(ca)
    context.verify_flags |= _NO_CHECK_TIME
    return context
