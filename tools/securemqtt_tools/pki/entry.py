"""A certificate as the inventory knows it, and its row in the table."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from securemqtt_tools.pki.keys import PublicKey, describe_key, key_fingerprint
from securemqtt_tools.pki.names import serial_text

ISSUED = "issued"
SUPERSEDED = "superseded"
REVOKED = "revoked"
EXPIRED = "expired"
STATES = (ISSUED, SUPERSEDED, REVOKED, EXPIRED)

COLUMNS = (
    "serial, role, subject, names, key_type, key_fingerprint, from_request, issued_at, "
    "not_after, state, changed_at, reason, in_crl, der"
)


@dataclass(frozen=True)
class Entry:
    """A certificate, to whom it was issued, and what became of it since."""

    serial: str
    role: str
    subject: str
    names: tuple[str, ...]
    key_type: str
    key_fingerprint: str
    from_request: bool
    issued_at: datetime
    not_after: datetime
    state: str
    changed_at: datetime
    reason: str | None
    in_crl: int | None
    der: bytes = field(repr=False)

    @classmethod
    def of(
        cls,
        certificate: x509.Certificate,
        public_key: PublicKey,
        role: str,
        subject: str,
        now: datetime,
        names: tuple[str, ...] = (),
        from_request: bool = False,
    ) -> Entry:
        """Describe a certificate that is being issued."""
        return cls(
            serial=serial_text(certificate.serial_number),
            role=role,
            subject=subject,
            names=names,
            key_type=describe_key(public_key),
            key_fingerprint=key_fingerprint(public_key),
            from_request=from_request,
            issued_at=now,
            not_after=certificate.not_valid_after_utc,
            state=ISSUED,
            changed_at=now,
            reason=None,
            in_crl=None,
            der=certificate.public_bytes(serialization.Encoding.DER),
        )

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Entry:
        """Make an entry of a row with the columns COLUMNS."""
        (serial, role, subject, names, key_type, fingerprint, from_request, *rest) = row
        issued_at, not_after, state, changed_at, reason, in_crl, der = rest
        return cls(
            serial=serial,
            role=role,
            subject=subject,
            names=tuple(json.loads(names)),
            key_type=key_type,
            key_fingerprint=fingerprint,
            from_request=bool(from_request),
            issued_at=from_seconds(issued_at),
            not_after=from_seconds(not_after),
            state=state,
            changed_at=from_seconds(changed_at),
            reason=reason,
            in_crl=in_crl,
            der=der,
        )

    def to_row(self) -> tuple[object, ...]:
        """Return the row with the columns COLUMNS."""
        return (
            self.serial,
            self.role,
            self.subject,
            json.dumps(self.names),
            self.key_type,
            self.key_fingerprint,
            self.from_request,
            to_seconds(self.issued_at),
            to_seconds(self.not_after),
            self.state,
            to_seconds(self.changed_at),
            self.reason,
            self.in_crl,
            self.der,
        )

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate itself."""
        return x509.load_der_x509_certificate(self.der)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def state_at(self, now: datetime) -> str:
        """Return its state, one of STATES: what has run out is expired, unless it was revoked
        before.
        """
        return EXPIRED if self.state != REVOKED and self.not_after <= now else self.state


def to_seconds(time: datetime) -> int:
    """Return a time as the inventory keeps it: whole seconds since 1970, UTC."""
    return int(time.timestamp())


def from_seconds(seconds: int) -> datetime:
    """Return the time that `to_seconds` turned into a number."""
    return datetime.fromtimestamp(seconds, timezone.utc)
