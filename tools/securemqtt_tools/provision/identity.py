"""Whether the identity that a device holds will do: judged by what is on the device, not by what an
earlier run noted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
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
    holder = held.config.get("client_id") or held.claimed_by
    if holder == device_id:
        return
    if holder:
        raise FatalError(
            f"this device is {str(holder)!r}: plug in the right one, or make it {device_id} with "
            f"--renew"
        )
    for entry in authority.inventory.entries(DEVICE, device_id):
        if entry.state_at(now) == ISSUED:
            raise FatalError(
                f"{device_id} has a certificate (until {entry.not_after:%Y-%m-%d}) that is not on "
                f"this device: choose "
                "another --id, or add --renew if this device takes its place"
            )


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
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
