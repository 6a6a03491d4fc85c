"""Look at a running broker from outside: does it keep out what it should?"""

from __future__ import annotations

import functools
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from securemqtt.diagnosis.openssl import classify
from securemqtt.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    ConnectionLost,
    HostNameMismatch,
    NotTLS,
    SecureMQTTError,
    TimedOut,
    TLSVersionTooOld,
    UnknownCA,
)
from securemqtt_tools.broker.trust import device_context
from securemqtt_tools.cli import FatalError

_WAIT_S = 5.0
_CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04look"
_CONNACK = 0x20
_TLS_ALERT = 0x15
_OUTDATED = {"TLS 1.0": ssl.TLSVersion.TLSv1, "TLS 1.1": ssl.TLSVersion.TLSv1_1}
# Where this computer's own OpenSSL is too strict for such an attempt, no byte of it was sent.
_NOT_OURS_TO_TRY = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "NO_CIPHER_MATCH")

# What is wrong with the proof, and what to do. {} is the name.
_WRONG: dict[type[SecureMQTTError] | None, str] = {
    UnknownCA: "its certificate is not from your authority: another broker answers there, or ours "
    "without its newest files (securemqtt broker install again, or end broker run and start it "
    "again)",
    CertificateExpired: "its certificate has expired: securemqtt broker reload renews it",
    CertificateNotYetValid: "its certificate is not valid yet: this computer's clock is wrong, or "
    "was when the certificate was issued",
    HostNameMismatch: "its certificate is not for {}: securemqtt broker init --force {} NAME… "
    "makes one that is, for its other names too",
    NotTLS: "it does not answer in TLS: all that is said there can be read on the way (securemqtt "
    "broker init sets up one that does)",
    TLSVersionTooOld: "it offers no version of TLS from 1.2 on: update it",
    ConnectionLost: "it hung up instead of answering in TLS",
    TimedOut: f"it does not answer in TLS within {_WAIT_S:.0f} s",
}
# Also what `provision` says when a board finds that.
STALE = (
    "the running broker has not taken up its newest files: securemqtt broker reload (where it is "
    "installed in the system: install again)"
)
_UNFIT = "its certificate is not fit for a server: securemqtt broker init --force makes one that is"
_STRANGERS = "only who has a certificate of your authority may enter"
_CLEAR = "what is said in clear can be read and changed on the way"
_OLD = "versions before 1.2 can be broken, and nothing of yours needs them"


@dataclass(frozen=True)
class Finding:
    """One thing that was tried; `good` is None where it could not be."""

    what: str
    good: bool | None
    detail: str


def check(
    host: str, port: int, name: str, ca: Path, newest: bytes, least_left: float = 0.5
) -> list[Finding]:
    """Try a broker as a stranger would; at most some 20 s.

    `newest` is the certificate, in DER, that it should show by its files; `least_left` is the part
    of its life that must be left, else what renews it has failed. Raise FatalError when it cannot
    be reached.
    """
    context = device_context(ca)
    try:
        with _reach(host, port) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
            proof = Finding(
                "proves who it is",
                True,
                f"a certificate of your authority, for {name}; {tls.version()}",
            )
            renewed = _renewed(tls, newest, least_left)
    except OSError as error:
        found = classify(error, "handshake")
        what = (
            "proves who it is" if isinstance(error, ssl.SSLCertVerificationError) else "speaks TLS"
        )
        wrong = _WRONG.get(found.error, f"the handshake fails: {error}")
        if found.variant == "certificate":
            wrong = _UNFIT
        if found.error is not UnknownCA and _shown(host, port, ca) not in (newest, None):
            wrong = f"{wrong.partition(': ')[0]}, and {STALE}"
        return [Finding(what, False, wrong.replace("{}", name))]
    findings = [
        proof,
        renewed,
        _refuses(
            "a client without a certificate",
            _STRANGERS,
            lambda: _stranger(host, port, name, context),
        ),
    ]
    findings.append(_refuses("a connection in clear", _CLEAR, lambda: _plaintext(host, port)))
    for label, version in _OUTDATED.items():
        attempt = functools.partial(_outdated, host, port, name, ca, version)
        findings.append(_refuses(label, _OLD, attempt))
    return findings


def _shown(host: str, port: int, ca: Path) -> bytes | None:
    """Return the certificate of ours that is shown there, for whatever name, in DER; None if there
    is none.
    """
    try:
        shown = ssl.get_server_certificate((host, port), ca_certs=str(ca), timeout=_WAIT_S)
    except OSError:  # of somebody else's, or none
        return None
    return ssl.PEM_cert_to_DER_cert(shown)


def _renewed(tls: ssl.SSLSocket, newest: bytes, least_left: float) -> Finding:
    certificate = tls.getpeercert() or {}
    begin, end = (
        ssl.cert_time_to_seconds(str(certificate[moment])) for moment in ("notBefore", "notAfter")
    )
    until = f"{datetime.fromtimestamp(end, timezone.utc):%Y-%m-%d}"
    what, left = "is renewed in time", end - time.time()
    if tls.getpeercert(binary_form=True) != newest:
        return Finding("shows its newest certificate", False, STALE)
    if left > (end - begin) * least_left:
        return Finding(what, True, f"the certificate that it shows is valid until {until}")
    return Finding(
        what,
        False,
        f"the certificate that it shows runs out on {until}, and what should have renewed it has "
        f"not: securemqtt broker renew, or reload, and then install where it is installed",
    )


def _reach(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), _WAIT_S)
    except OSError as error:
        raise FatalError(
            f"nothing answers on {host} port {port} ({error.strerror or error}): securemqtt "
            f"broker run starts it"
        ) from error


def _refuses(what: str, why: str, attempt: Callable[[], bytes]) -> Finding:
    """Make an attempt that must fail; it gives what the broker answered to a CONNECT, or raises
    OSError. `why` it is right to.
    """
    try:
        answer = attempt()
    except OSError as error:
        if getattr(error, "reason", None) in _NOT_OURS_TO_TRY:
            return Finding(
                f"refuses {what}", None, "not tried: this computer's OpenSSL does not let us"
            )
        found = classify(error, "handshake")
        manner = (
            "with a TLS alert"
            if found.alert is not None
            else f"by not answering for {_WAIT_S:.0f} s"
            if found.error is TimedOut
            else "by hanging up"
        )
    else:
        first = answer[:1]
        if first == bytes([_CONNACK]) and answer[3:4] == b"\0":
            return Finding(f"refuses {what}", False, f"it was let in, though {why}")
        manner = (
            "with a TLS alert"
            if first == bytes([_TLS_ALERT])
            else "in CONNACK"
            if first == bytes([_CONNACK])
            else "by hanging up"
        )
    return Finding(f"refuses {what}, {manner}", True, why)


def _stranger(host: str, port: int, name: str, context: ssl.SSLContext) -> bytes:
    with _reach(host, port) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        tls.sendall(_CONNECT)
        return tls.recv(4)


def _plaintext(host: str, port: int) -> bytes:
    with _reach(host, port) as plain:
        plain.sendall(_CONNECT)
        return plain.recv(4)


def _outdated(host: str, port: int, name: str, ca: Path, version: ssl.TLSVersion) -> bytes:
    context = device_context(ca)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is outdated is the point
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with _reach(host, port) as plain, context.wrap_socket(plain, server_hostname=name):
        return bytes([_CONNACK, 2, 0, 0])  # that the handshake succeeded is enough
