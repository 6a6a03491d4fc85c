"""Look at a running broker from outside: does it keep out what it should?"""

from __future__ import annotations

import functools
import socket
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.cli import FatalError

_WAIT_S = 5.0
_CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04look"
_CONNACK = 0x20
_OUTDATED = {"TLS 1.0": ssl.TLSVersion.TLSv1, "TLS 1.1": ssl.TLSVersion.TLSv1_1}


@dataclass(frozen=True)
class Finding:
    """One thing that was tried."""

    what: str
    good: bool
    detail: str


def check(host: str, port: int, name: str, ca: Path) -> list[Finding]:
    """Try a broker as a stranger would; at most some 20 s. Raises FatalError when it cannot be reached."""
    context = ssl.create_default_context(cafile=str(ca))
    try:
        plain = socket.create_connection((host, port), _WAIT_S)
    except OSError as error:
        raise FatalError(f"nothing answers on {host} port {port} ({error.strerror or error}): securemqtt broker run starts it") from error
    try:
        with plain, context.wrap_socket(plain, server_hostname=name) as tls:
            proof = Finding("proves who it is", True, f"{name}, {tls.version()}")
    except ssl.SSLCertVerificationError as error:
        return [Finding("proves who it is", False, error.verify_message)]
    except OSError as error:
        return [Finding("speaks TLS", False, getattr(error, "reason", None) or error.strerror or str(error))]
    findings = [proof, _refuses("a client without a certificate", lambda: _stranger(host, port, name, context))]
    findings.append(_refuses("a connection in clear", lambda: _plaintext(host, port)))
    for label, version in _OUTDATED.items():
        attempt = functools.partial(_outdated, host, port, name, ca, version)
        findings.append(_refuses(label, attempt))
    return findings


def _refuses(what: str, attempt: Callable[[], bytes]) -> Finding:
    """Make an attempt that must fail; it gives what the broker answered to a CONNECT, or raises OSError."""
    try:
        answer = attempt()
    except OSError as error:
        return Finding(f"refuses {what}", True, getattr(error, "reason", None) or error.strerror or str(error))
    if answer[:1] == bytes([_CONNACK]) and answer[3:4] == b"\0":
        return Finding(f"refuses {what}", False, "it was let in")
    return Finding(f"refuses {what}", True, f"CONNACK {answer[3]}" if len(answer) > 3 else "closed")


def _stranger(host: str, port: int, name: str, context: ssl.SSLContext) -> bytes:
    with socket.create_connection((host, port), _WAIT_S) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        tls.sendall(_CONNECT)
        return tls.recv(4)


def _plaintext(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), _WAIT_S) as plain:
        plain.sendall(_CONNECT)
        return plain.recv(4)


def _outdated(host: str, port: int, name: str, ca: Path, version: ssl.TLSVersion) -> bytes:
    context = ssl.create_default_context(cafile=str(ca))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is outdated is the point
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection((host, port), _WAIT_S) as plain, context.wrap_socket(plain, server_hostname=name):
        return bytes([_CONNACK, 2, 0, 0])  # that the handshake succeeded is enough
