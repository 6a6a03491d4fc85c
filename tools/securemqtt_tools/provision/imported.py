"""An identity that was made elsewhere, with `openssl` say: its files read and judged.

Whatever would fail on the device only, in a handshake perhaps and without a word, is said here:
a key of another certificate, dates, a broken chain, a kind of key that a board cannot use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from securemqtt.protocol.topics import valid_elsewhere
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Issued
from securemqtt_tools.pki.clock import Clock, system_clock
from securemqtt_tools.pki.files import explained, read_private
from securemqtt_tools.pki.keys import Passphrase, PrivateKey, check_public_key
from securemqtt_tools.pki.names import serial_text
from securemqtt_tools.pki.profiles import DEVICE
from securemqtt_tools.provision.identity import common_name

_SOON = timedelta(days=30)


@dataclass(frozen=True)
class Imported:
    """Certificate, key and trust anchors from files. Has the verbs of `Authority` that provisioning
    uses, though it signs nothing.

    `remarks` is what a person should know, and is no mistake.
    """

    device_id: str
    anchors: tuple[x509.Certificate, ...]
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    remarks: tuple[str, ...]
    clock: Clock = system_clock

    @property
    def now(self) -> datetime:
        """The time."""
        return self.clock()

    @property
    def issuing_certificate(self) -> x509.Certificate:
        """The certificate to hold a clock against: there is none of the authority's here."""
        return self.chain[0]

    def trust_anchors(self) -> tuple[x509.Certificate, ...]:
        """Return the CAs by which the device is to verify its broker."""
        return self.anchors

    def unlock(self) -> None:
        """Do nothing: the key was opened when it was read."""

    def issue_device(self, device_id: str, *, days: int | None, renew: bool) -> Issued:
        """Return what was imported, as if it had been issued."""
        serial = serial_text(self.chain[0].serial_number)
        return Issued(DEVICE, device_id, (), serial, self.chain, self.key)


def read_identity(
    anchors: Sequence[Path],
    certificate: Path,
    key: Path,
    *,
    device_id: str | None,
    for_board: bool,
    password: Passphrase,
    clock: Clock = system_clock,
) -> Imported:
    """Read the files, PEM or DER, and check that they belong together and will do.

    `device_id` is the common name of the certificate if none is given. Raise FatalError with the
    first thing that is wrong.
    """
    now = clock()
    roots = tuple(one for path in anchors for one in _certificates(path))
    chain = _certificates(certificate)
    # `openssl pkcs12` and some CAs write the root into the chain, too: nobody needs it there.
    chain = (chain[0], *(one for one in chain[1:] if one.issuer != one.subject))
    for one in roots:
        _check_anchor(one, now, for_board)
    for number, one in enumerate(chain):
        _check_dates(one, f"the certificate in {certificate}", now)
        if number:
            _check_link(chain[number - 1], one, certificate)
    _check_use(chain[0], certificate)
    private = _private_key(key, password)
    if private.public_key() != chain[0].public_key():
        raise FatalError(f"{key} is not the key of the certificate in {certificate}")
    try:
        check_public_key(chain[0].public_key())
    except FatalError as error:
        if for_board:
            raise FatalError(f"{certificate} is not for a board: {error}") from error
    name = device_id or common_name(chain[0])
    if not valid_elsewhere(name):
        what = "give --id: the certificate has no common name that could be an id"
        if device_id:
            what = f"{device_id!r} is no client id: it holds / + # or a control character"
        raise FatalError(what)
    return Imported(name, roots, chain, private, tuple(_remarks(name, chain, roots, now)), clock)


def _remarks(
    name: str,
    chain: tuple[x509.Certificate, ...],
    roots: tuple[x509.Certificate, ...],
    now: datetime,
) -> list[str]:
    remarks = []
    if common_name(chain[0]) != name:
        remarks.append(
            f"the certificate is that of {common_name(chain[0])!r}: a broker that compares it with "
            f"the client id {name!r} will refuse it"
        )
    if not any(_issued(chain[-1], root) for root in roots):
        remarks.append(
            f"{_issuer(chain[-1])!r}, which issued the certificate, is not among the CAs given: "
            "right where the broker's certificate comes from another CA than the devices', as in "
            "a cloud; else the broker may want an intermediate behind it in the file"
        )
    end = min(one.not_valid_after_utc for one in chain)
    if end - now < _SOON:
        remarks.append(f"the certificate ends on {end:%Y-%m-%d}")
    return remarks


def _check_anchor(anchor: x509.Certificate, now: datetime, for_board: bool) -> None:
    title = f"the CA {anchor.subject.rfc4514_string()!r}"
    _check_dates(anchor, title, now)
    if not _is_ca(anchor) and anchor.issuer != anchor.subject:
        raise FatalError(
            f"{title} is the certificate of a server or a device: --ca takes that of the "
            "authority that issued the broker's"
        )
    constraints = _extension(anchor, x509.NameConstraints)
    if for_board and constraints is not None and constraints.critical:
        raise FatalError(
            f"{title} has critical name constraints, with which a board's mbedTLS takes no "
            "certificate of it at all: use another CA for boards"
        )


def _check_dates(certificate: x509.Certificate, title: str, now: datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        raise FatalError(f"{title} ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if now < certificate.not_valid_before_utc:
        raise FatalError(
            f"{title} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and "
            f"this computer's clock shows {now:%Y-%m-%d %H:%M}"
        )


def _check_link(issued: x509.Certificate, issuer: x509.Certificate, path: Path) -> None:
    if not _issued(issued, issuer):
        raise FatalError(
            f"the chain in {path} is broken: {issuer.subject.rfc4514_string()!r} did not issue "
            f"{issued.subject.rfc4514_string()!r}; the device's own certificate comes first, each "
            "issuer behind what it issued"
        )


def _check_use(certificate: x509.Certificate, path: Path) -> None:
    if _is_ca(certificate):
        raise FatalError(f"{path} begins with a CA's certificate: the device's own comes first")
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is None:
        return
    allowed = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if not any(one in usage.value for one in allowed):
        raise FatalError(
            f"the certificate in {path} is not for a client (its extendedKeyUsage lacks "
            "clientAuth), so brokers refuse it: have one issued for a client"
        )


def _is_ca(certificate: x509.Certificate) -> bool:
    basic = _extension(certificate, x509.BasicConstraints)
    return basic is not None and bool(basic.value.ca)


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issuer(certificate: x509.Certificate) -> str:
    return certificate.issuer.rfc4514_string()


def _certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a file, PEM or DER: at least one. Raise FatalError."""
    with explained(f"read {path}"):
        content = path.read_bytes()
    try:
        if b"-----BEGIN" in content:
            return tuple(x509.load_pem_x509_certificates(content))
        return (x509.load_der_x509_certificate(content),)
    except ValueError as error:
        what = "holds no certificate in PEM or DER, or is damaged"
        if b"PRIVATE KEY" in content:
            what = "holds a private key, and a certificate is wanted here"
        raise FatalError(f"{path} {what}") from error


def _private_key(path: Path, password: Passphrase) -> PrivateKey:
    """Return the key of a file, PEM or DER; `password` is called only for an encrypted one."""
    content = read_private(path)
    is_pem = b"-----BEGIN" in content
    load = serialization.load_pem_private_key if is_pem else serialization.load_der_private_key
    secret: bytes | None = None
    try:
        try:
            key = load(content, None)
        except TypeError:  # so `cryptography` says that it is encrypted
            secret = password() if callable(password) else password
            key = load(content, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = f"{path} holds no private key in PEM or DER, or is damaged"
        if secret is not None:
            what = f"{path} does not open with this password"
        elif b"BEGIN CERTIFICATE" in content:
            what = f"{path} holds a certificate, and a private key is wanted here"
        raise FatalError(what) from error
    # Of another kind, such as Ed25519, it is written in the same way; boards were asked about.
    return cast(PrivateKey, key)
