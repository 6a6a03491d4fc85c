"""Whether the identity that a device holds will do: judged by what is on the device, not by what an
earlier run noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority, Issued
from securemqtt_tools.pki.entry import ISSUED
from securemqtt_tools.pki.names import serial_text
from securemqtt_tools.pki.profiles import DEVICE
from securemqtt_tools.provision.bundle import Settings


@dataclass(frozen=True)
class Held:
    """What was found on a device.

    `hashes` has the files that its config.json names, `key_fits` whether its private key is whole
    and belongs to its certificate, `claimed_by` the id that an unfinished run was giving it.
    """

    config: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str | None] = field(default_factory=dict)
    chain: tuple[x509.Certificate, ...] = ()
    key_fits: bool = False
    claimed_by: str | None = None


class Source(Protocol):
    """Where a device's identity comes from: our authority, or files (`imported.Imported`)."""

    @property
    def now(self) -> datetime:
        """The time."""

    @property
    def issuing_certificate(self) -> x509.Certificate:
        """The certificate to hold a clock against."""

    def trust_anchors(self) -> Sequence[x509.Certificate]:
        """Return the CAs by which the device is to verify its broker."""

    def unlock(self) -> None:
        """Ask for the passphrase now, if one is needed. Raise FatalError."""

    def issue_device(self, device_id: str, *, days: int | None, renew: bool) -> Issued:
        """Return certificate and key for a device. Raise FatalError."""


def reason_for(held: Held, source: Source, settings: Settings) -> str | None:
    """Say why a device needs a certificate of this source, or return None when its own will do.

    Raise FatalError when this would give one id to two devices, or take a device's id away.
    """
    if isinstance(source, Authority):
        refuse_mix_up(held, source, settings, source.now)
        return fault(held, source, settings.device_id, source.now)
    refuse_another(held, settings.device_id)
    wanted = source.issue_device(settings.device_id, days=None, renew=False).chain
    if not held.chain:
        return "the device has none yet"
    if held.chain != wanted:
        return "the device has another one"
    return None if held.key_fits else "its private key is missing or is another's"


def fault(held: Held, authority: Authority, device_id: str, now: datetime) -> str | None:
    """Say why a device needs a new certificate, or return None when its own will do."""
    if not held.chain:
        return "the device has none yet"
    certificate = held.chain[0]
    if common_name(certificate) != device_id:
        return f"the device has that of {common_name(certificate)!r}"
    if not _issued_by(held.chain, authority):
        return "its own is from another authority"
    if not held.key_fits:
        return "its private key is missing or is another's"
    entry = authority.inventory.by_serial(serial_text(certificate.serial_number))
    if entry is None:
        return "its own is not in the inventory"
    if entry.state_at(now) != ISSUED:
        return f"its own is {entry.state_at(now)}"
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if certificate.not_valid_after_utc - now < lifetime / 3:
        return f"its own ends on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def refuse_mix_up(held: Held, authority: Authority, settings: Settings, now: datetime) -> None:
    """Raise FatalError when this would give one id to two devices, or take a device's id away: that
    must be asked for.
    """
    device_id = settings.device_id
    if refuse_another(held, device_id):
        return
    for entry in authority.inventory.entries(DEVICE, device_id):
        if entry.state_at(now) == ISSUED:
            raise FatalError(
                f"{device_id} has a certificate (until {entry.not_after:%Y-%m-%d}) that is not on "
                f"this device: choose "
                "another --id, or add --renew if this device takes its place"
            )


def refuse_another(held: Held, device_id: str) -> bool:
    """Return True if a device has this id already, False if it has none.

    Raise FatalError if it has another one.
    """
    holder = held.config.get("client_id") or held.claimed_by
    if holder and holder != device_id:
        raise FatalError(
            f"this device is {str(holder)!r}: take that of {device_id}, or make this one "
            f"{device_id} with --renew"
        )
    return bool(holder)


def usable_chain(certificates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return a chain that was found on a device; nothing if one of it is damaged, or of a kind that
    is not known here.
    """
    try:
        chain = tuple(certificates)
        for one in chain:
            _ = one.subject, one.issuer, one.public_key()
    except (KeyError, ValueError, UnsupportedAlgorithm):
        return ()
    return chain


def common_name(certificate: x509.Certificate) -> str:
    """Return the common name of a certificate's subject; an empty text when there is none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def public_part(certificate: x509.Certificate) -> bytes:
    """Return the bytes of a public key that its private key's file holds as well: the point, or the
    modulus.
    """
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_numbers().n.to_bytes(key.key_size // 8, "big")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _issued_by(chain: tuple[x509.Certificate, ...], authority: Authority) -> bool:
    issuers = (*chain[1:], authority.root)
    try:
        for certificate, issuer in zip(chain, issuers, strict=True):
            certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
