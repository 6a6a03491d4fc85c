"""An inventory that was restored from a backup: how it is noticed, and how it learns what it has
forgotten.

The witnesses are files of the authority's own making that are newer than the backup: above all the
CRL that the broker has, which must never be replaced by one that lists less.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.crls import crls_in, number_of
from securemqtt_tools.pki.entry import REVOKED, Entry
from securemqtt_tools.pki.files import explained
from securemqtt_tools.pki.inventory import Inventory
from securemqtt_tools.pki.keys import check_public_key
from securemqtt_tools.pki.names import name_text, serial_text
from securemqtt_tools.pki.profiles import BACKDATE, DEVICE, SERVER, excluded_ids, role_of
from securemqtt_tools.pki.tables import Forgotten

_SUFFIXES = frozenset({".crt", ".der", ".pem"})
_LARGEST_BYTES = 64 * 1024 * 1024  # a CRL of a million lines has 40 MB
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True)
class Found:
    """What a file holds that an authority has signed, or that says whom it shuts out."""

    path: Path
    crl: x509.CertificateRevocationList | None = None
    certificates: tuple[x509.Certificate, ...] = ()
    ids: frozenset[str] = frozenset()

    @property
    def number(self) -> int:
        """The CRL's number; 0 where there is none."""
        return number_of(self.crl) if self.crl is not None else 0

    @property
    def serials(self) -> set[str]:
        """The serial numbers that the CRL lists."""
        return {serial_text(line.serial_number) for line in self.crl or ()}


@dataclass(frozen=True)
class TakenOver:
    """What an inventory has learned."""

    revocations: int
    certificates: int
    number: int  # the highest of a CRL that was found

    def __bool__(self) -> bool:
        return bool(self.revocations or self.certificates)


def read(path: Path, issuer: x509.Certificate) -> Found | None:
    """Return what a file holds that `issuer` has signed; None when it is missing, or holds nothing
    of the kind. Raise FatalError when it cannot be read.
    """
    content = content_of(path)
    crls, certificates = signed_crls(content, issuer), certificates_in(content)
    crl = crls[-1] if crls else None
    ids = frozenset(one for anchor in certificates for one in excluded_ids(anchor, issuer))
    ours = tuple(one for one in certificates if _is_from(one, issuer))
    return Found(path, crl, ours, ids) if crl is not None or ours or ids else None


def forgotten(inventory: Inventory, issuer: x509.Certificate, path: Path) -> str:
    """Say what the inventory does not know of what a file holds; "" where it knows all.

    Raise FatalError when the file cannot be read.
    """
    found = read(path, issuer)  # first, since the inventory is never behind what was written before
    if found is None:
        return ""
    known = {one.serial for one in inventory.entries()} if found.certificates else set()
    strange = [_serial(one) for one in found.certificates if _serial(one) not in known]
    if found.crl is None or strange:
        return f"{path} holds a certificate, serial {strange[0]}," if strange else ""
    newest = inventory.newest_crl()
    says = f"{path} holds CRL {found.number}, with {len(found.crl)} revoked,"
    if newest is None or found.number > newest.number:
        return says
    if found.number == newest.number and found.crl != x509.load_pem_x509_crl(newest.pem):
        return says
    return says if found.serials - inventory.revoked_serials() else ""


def check_knows(inventory: Inventory, issuer: x509.Certificate, path: Path) -> None:
    """Raise FatalError, which says how to go on, when the inventory does not know all that a file
    holds of what `issuer` has signed.
    """
    unknown = forgotten(inventory, issuer, path)
    if unknown:
        raise FatalError(
            f"{unknown} which this authority has signed and its inventory does not know: it comes "
            f"from an older backup, or a copy of it signs as well. Nothing was changed, so that "
            f"nobody who was revoked gets in again. Take over what is missing: run securemqtt ca "
            f"recover {shlex.quote(str(path))}"
        )


def search(places: Iterable[Path], issuer: x509.Certificate) -> list[Found]:
    """Return what files, or the files below directories, hold of what `issuer` has signed.

    Raise FatalError when one cannot be read.
    """
    found = [read(path, issuer) for path in files_of(places)]
    return [one for one in found if one is not None]


def files_of(places: Iterable[Path]) -> list[Path]:
    """Return files, and of those below directories the ones that may hold certificates, as far as
    the directories may be read (see below). Raise FatalError.
    """
    files: list[Path] = []
    for place in places:
        with explained(f"read {place}"):
            is_directory = place.is_dir()
        found = below(place, []) if is_directory else [place]
        files += [one for one in found if one == place or one.suffix in _SUFFIXES]
    return files


def closed_in(places: Iterable[Path]) -> list[Path]:
    """Return the directories among these, and below them, that may not be read, of which `search`
    says nothing. Raise FatalError.
    """
    closed: list[Path] = []
    for place in places:
        if place.is_dir():
            below(place, closed)
    return closed


def below(place: Path, closed: list[Path]) -> list[Path]:
    """Return all that is below a directory, and add to `closed` those directories, itself too, that
    may not be read: Path.rglob passes them over without a word. Raise FatalError.
    """

    def passed(error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise error
        closed.append(Path(error.filename))

    found: list[Path] = []
    with explained(f"read {place}"):
        for directory, directories, files in os.walk(place, onerror=passed):
            found += [Path(directory, one) for one in (*directories, *files)]
    return sorted(found)


def news_of_devices(inventory: Inventory, found: Sequence[Found]) -> set[str]:
    """Return the ids of devices of which what was found says more than an inventory knows: that one
    has a certificate, that one was revoked, that one is shut out. Raise FatalError.
    """
    known = {one.serial: one for one in inventory.entries()}
    listed = set[str]().union(*(each.serials for each in found))
    told = [one for each in found for leaf in each.certificates if (one := _entry(leaf))]
    return {
        *(one.subject for one in told if one.role == DEVICE and one.serial not in known),
        *(
            one.subject
            for one in known.values()
            if one.role == DEVICE and one.state != REVOKED and one.serial in listed
        ),
        *(id_ for each in found for id_ in each.ids),
    }


def take_over(inventory: Inventory, found: Sequence[Found]) -> TakenOver:
    """Have an inventory learn what was found: certificates, then who was revoked. Raise
    FatalError.
    """
    entries = [_entry(one) for each in found for one in each.certificates]
    adopted = [inventory.adopt(entry) for entry in entries if entry is not None]
    lines = {
        one.serial: one
        for each in sorted(found, key=lambda each: each.number)
        for one in _revocations(each)
    }
    shut_out = {one for each in found for one in each.ids}
    return TakenOver(
        inventory.take_over(lines.values(), sorted(shut_out)),
        sum(adopted),
        max((each.number for each in found), default=0),
    )


def _revocations(found: Found) -> Iterable[Forgotten]:
    for line in found.crl or ():
        try:
            reason = line.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            reason = x509.ReasonFlags.unspecified
        yield Forgotten(serial_text(line.serial_number), line.revocation_date_utc, reason.value)


def _entry(certificate: x509.Certificate) -> Entry | None:
    """Describe a leaf as it was when it was issued; None for anything else."""
    role = role_of(certificate)
    names: tuple[str, ...] = ()
    if role == SERVER:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = tuple(name_text(one) for one in alternatives.value)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    subject = names[0] if names else str(common[0].value) if common else ""
    if role is None or not subject:
        return None
    begin = certificate.not_valid_before_utc + BACKDATE
    key = check_public_key(certificate.public_key())
    return Entry.of(certificate, key, role, subject, begin, names)


def signed_crls(content: bytes, issuer: x509.Certificate) -> list[x509.CertificateRevocationList]:
    """Return the CRLs of a file's content that `issuer` has signed, by its number."""
    try:
        key = check_public_key(issuer.public_key())
        found = [one for one in crls_in(content) if one.is_signature_valid(key)]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return []
    return sorted((one for one in found if one.issuer == issuer.subject), key=number_of)


def content_of(path: Path) -> bytes:
    """Read a file that may be a witness; b"" where it is missing, or too large for one. Raise
    FatalError when it cannot be read.
    """
    with explained(f"read {path}"):
        try:
            status = path.stat()  # is_file() would take for missing what may not be looked at
        except OSError as error:
            if error.errno in _MISSING:
                return b""
            raise
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_BYTES:
            return b""
        return path.read_bytes()


def certificates_in(content: bytes) -> list[x509.Certificate]:
    """Return the certificates that a file's content has, in PEM or DER."""
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except (ValueError, UnsupportedAlgorithm):
        return []


def _is_from(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    try:  # a CA below it, or the issuer itself, is nobody's to enter with
        return not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return True


def _serial(certificate: x509.Certificate) -> str:
    return serial_text(certificate.serial_number)
