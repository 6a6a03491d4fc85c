"""An identity that was made elsewhere, with `openssl` say: its files read and judged.

Whatever would fail on the device only, in a handshake perhaps and without a word, is said here:
a key of another certificate, dates, a broken chain, a kind of key that a board cannot use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from securemqtt.protocol.topics import valid_elsewhere, valid_id
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Issued, foreign
from securemqtt_tools.pki.clock import Clock, system_clock
from securemqtt_tools.pki.keys import Passphrase, PrivateKey, check_public_key
from securemqtt_tools.pki.names import serial_text
from securemqtt_tools.pki.profiles import DEVICE, SHARED, role_of
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

    @property
    def shared_by(self) -> str | None:
        """The group whose devices share the certificate; None for one that is a device's own."""
        return common_name(self.chain[0]) if role_of(self.chain[0]) == SHARED else None

    def is_of(self, trust: Path) -> bool:
        """Return True if the authority in a file has issued the certificate, for an id that may be
        one of its devices'. Raise FatalError.
        """
        roots = foreign.read_certificates(trust)
        return valid_id(self.device_id) and foreign.was_issued(self.chain[-1], roots)

    def trust_anchors(self) -> tuple[x509.Certificate, ...]:
        """Return the CAs by which the device is to verify its broker."""
        return self.anchors

    def unlock(self) -> None:
        """Do nothing: the key was opened when it was read."""

    def issue_device(self, device_id: str, *, days: int | None, renew: bool) -> Issued:
        """Return what was imported, as if it had been issued."""
        serial = serial_text(self.chain[0].serial_number)
        return Issued(DEVICE, device_id, (), serial, self.chain, self.key)


def read_imported(
    anchors: Sequence[Path],
    certificate: Path,
    key: Path,
    *,
    device_id: str | None,
    for_board: bool,
    password: Passphrase,
    has_login: bool = False,
    clock: Clock = system_clock,
) -> Imported:
    """Read the files, PEM or DER, and check that they belong together and will do.

    `device_id` is the common name of the certificate if none is given; with `has_login` the device
    gives it as user name, with a password, so the common name may be another. Raise FatalError
    with the first thing that is wrong.
    """
    now = clock()
    roots = tuple(one for path in anchors for one in foreign.read_certificates(path))
    for root in roots:
        _check_anchor(root, now, for_board)
    chain, private = foreign.read_identity(certificate, key, password, now)
    if not foreign.is_for(chain[0], ExtendedKeyUsageOID.CLIENT_AUTH):
        raise FatalError(
            f"the certificate in {certificate} is not for a client (its extendedKeyUsage lacks "
            "clientAuth), so brokers refuse it: have one issued for a client"
        )
    try:
        check_public_key(chain[0].public_key())
    except FatalError as error:
        if for_board:
            raise FatalError(f"{certificate} is not for a board: {error}") from error
    foreign.check_usable(chain, private, certificate)
    name = device_id or common_name(chain[0])
    if not valid_elsewhere(name):
        what = "give --id: the certificate has no common name that could be an id"
        if device_id:
            what = f"{device_id!r} is no client id: it holds / + # or a control character"
        raise FatalError(what)
    remarks = _remarks(name, chain, roots, now, has_login)
    return Imported(name, roots, chain, private, tuple(remarks), clock)


def _remarks(
    name: str,
    chain: tuple[x509.Certificate, ...],
    roots: tuple[x509.Certificate, ...],
    now: datetime,
    has_login: bool,
) -> list[str]:
    remarks = []
    if role_of(chain[0]) == SHARED:
        remarks.append(
            f"the certificate is the one that {common_name(chain[0])} shares: whoever steals its "
            "key has that of all of them (docs/shared-certificates.md)"
        )
    elif common_name(chain[0]) != name and not has_login:
        remarks.append(
            f"the certificate is that of {common_name(chain[0])!r}: a broker that compares it with "
            f"the client id {name!r} will refuse it"
        )
    if not foreign.was_issued(chain[-1], roots):
        remarks.append(
            f"{chain[-1].issuer.rfc4514_string()!r}, which issued the certificate, is not among "
            "the CAs given: right where the broker's certificate comes from another CA than the "
            "devices', as in a cloud; else the broker may want an intermediate behind it in the "
            "file"
        )
    end = min(one.not_valid_after_utc for one in chain)
    if end - now < _SOON:
        remarks.append(f"the certificate ends on {end:%Y-%m-%d}")
    return remarks


def _check_anchor(anchor: x509.Certificate, now: datetime, for_board: bool) -> None:
    title = f"the CA {anchor.subject.rfc4514_string()!r}"
    foreign.check_dates(anchor, title, now)
    if not foreign.is_ca(anchor) and anchor.issuer != anchor.subject:
        raise FatalError(
            f"{title} is the certificate of a server or a device: --ca takes that of the "
            "authority that issued the broker's"
        )
    constraints = foreign.extension(anchor, x509.NameConstraints)
    if for_board and constraints is not None and constraints.critical:
        raise FatalError(
            f"{title} has critical name constraints, with which a board's mbedTLS takes no "
            "certificate of it at all: use another CA for boards"
        )
