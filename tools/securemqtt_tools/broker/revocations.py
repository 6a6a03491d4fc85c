"""Who is revoked, in the files of a broker: its CRL, and what follows from that.

They belong together, so whoever hands a broker a CRL, or copies it to one elsewhere, hands over all
of them. The CRL is written last: who finds a new one finds the others new as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority, layout, succession
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.files import explained, read_json, write_file, write_files
from securemqtt_tools.pki.names import check_device_id, serial_text
from securemqtt_tools.pki.profiles import DEVICE, anchor_without
from securemqtt_tools.pki.recovery import goes_back, number_of
from securemqtt_tools.pki.tables import CrlRecord

CRL = layout.CRL
REVOKED_IDS = "revoked.json"
WEBSOCKETS_CA = "ca.websockets.pem"
FILES = (CRL, REVOKED_IDS, WEBSOCKETS_CA)
KEPT_CRL = succession.KEPT_CRL
_REMEDY = (
    "Where the authority is, run securemqtt ca recover, then securemqtt broker reload; a broker "
    "elsewhere gets the authority's files again, then securemqtt broker reload (docs/"
    "certificates.md)"
)
_NO_DEVICE = ""  # whose a server's certificate is: nobody has to be put out for it


def hand_over(authority: Authority, directory: Path) -> CrlRecord:
    """Write the newest CRL, and what follows from it, into a directory.

    Of several processes that do so at once, none puts older files over newer ones. Raise FatalError
    when there is no CRL yet, when a file cannot be written, and when the CRL there says what the
    inventory does not know.
    """
    inventory = authority.inventory
    with inventory.transaction():
        newest = inventory.newest_crl()
        if newest is None:
            raise FatalError("there is no CRL yet: run securemqtt ca crl")
        read_kept(directory)  # else nobody knows what it says
        authority.check_knows(directory / CRL, directory / KEPT_CRL)
        entries = {one.serial: one for one in inventory.entries() if one.state == REVOKED}
        ids: dict[str, str | None] = {}
        for line in x509.load_pem_x509_crl(newest.pem):
            serial = serial_text(line.serial_number)
            entry = entries.get(serial)
            of_device = entry is not None and entry.role == DEVICE
            # null: revoked, and the certificate is unknown since a backup was restored
            ids[serial] = (entry.subject if of_device else _NO_DEVICE) if entry else None
        shut_out = {
            one.subject
            for one in entries.values()
            if one.role == DEVICE and one.not_after > authority.now
        }
        anchor = anchor_without(authority.issuing_certificate, shut_out | inventory.forgotten()[1])
        files = {REVOKED_IDS: (json.dumps(ids, indent=1) + "\n").encode()}
        if not _says(directory / WEBSOCKETS_CA, anchor):
            files[WEBSOCKETS_CA] = anchor.public_bytes(Encoding.PEM)
        write_files(directory, {**files, CRL: newest.pem})
        check_kept(directory)
    return newest


def revoked_ids(directory: Path, serials: Iterable[int]) -> set[str] | None:
    """Return the devices whose certificates were revoked, None if one of them is not known, or the
    file is damaged that should say so. A server's are nobody's. Raise FatalError.
    """
    try:
        known = _known(directory)
    except FatalError:  # it is just being copied, perhaps
        return None
    found = [known.get(serial_text(serial)) for serial in serials]
    if None in found:
        return None
    return {check_device_id(str(one)) for one in found if one != _NO_DEVICE}


def newly_revoked(
    directory: Path,
    crl: x509.CertificateRevocationList,
    before: x509.CertificateRevocationList,
    most: int,
) -> set[str] | None:
    """Return the devices that are revoked by this CRL and were not by the one of `before`; None
    where these cannot be told, or are more than `most`. Raise FatalError.
    """
    # Another issuer: what the old one has issued is worth nothing, and a file of trust that has
    # changed is not read again either.
    if crl.issuer != before.issuer:
        return None
    added = serials(crl) - serials(before)
    return revoked_ids(directory, added) if len(added) <= most else None


def serials(crl: x509.CertificateRevocationList) -> frozenset[int]:
    """Return the serial numbers that a CRL has."""
    return frozenset(line.serial_number for line in crl)


def keep_newest(directory: Path, read: x509.CertificateRevocationList) -> None:
    """Raise FatalError when the CRL of a directory is older than the one that its running broker
    has read, or gone: the files come from a backup. The newer one is kept beside it then, where
    `ca recover` finds it, and no broker starts before that.
    """
    with suppress(FatalError):
        if not goes_back(read, read_crl(directory)):
            return
    kept = read_kept(directory)
    if kept is None or goes_back(read, kept):
        write_file(directory / KEPT_CRL, read.public_bytes(Encoding.PEM))
    check_kept(directory)


def check_kept(directory: Path) -> None:
    """Raise FatalError when the CRL of a directory is older than the newest that a broker there has
    read (`keep_newest`); forget that one once the CRL follows it.
    """
    kept = read_kept(directory)
    if kept is None:
        return
    try:
        there = read_crl(directory)
    except FatalError as error:
        raise FatalError(f"{error}. {_REMEDY}") from error
    if goes_back(kept, there):
        raise FatalError(
            f"{directory / CRL} holds CRL {number_of(there)}, with {len(there)} revoked, and comes "
            f"from a backup: the broker had read CRL {number_of(kept)}, with {len(kept)}, which is "
            f"in {KEPT_CRL} beside it. {_REMEDY}"
        )
    with explained(f"remove {directory / KEPT_CRL}"):
        (directory / KEPT_CRL).unlink(missing_ok=True)


def read_kept(directory: Path) -> x509.CertificateRevocationList | None:
    """Read the newest CRL that a broker had read, where an older one has taken its place. Raise
    FatalError when it is damaged.
    """
    path = directory / KEPT_CRL
    with explained(f"read {path}"):
        if not path.exists():
            return None
        content = path.read_bytes()
    try:
        return x509.load_pem_x509_crl(content)
    except ValueError as error:
        raise FatalError(
            f"{path}, which says who was revoked since a backup, is damaged: have securemqtt ca "
            f"recover look through the directory that the backup has replaced, then delete it"
        ) from error


def unexplained(directory: Path) -> int:
    """Return how many a CRL lists of which the file beside it says nothing: it came alone. Raise
    FatalError when the CRL cannot be read.
    """
    known: Mapping[str, object] = {}
    with suppress(FatalError):
        known = _known(directory)
    return sum(serial_text(line.serial_number) not in known for line in read_crl(directory))


def read_crl(directory: Path) -> x509.CertificateRevocationList:
    """Read the CRL. Raise FatalError."""
    path = directory / CRL
    with explained(f"read {path}"):
        content = path.read_bytes()
    try:
        return x509.load_pem_x509_crl(content)
    except ValueError as error:
        raise FatalError(f"{path} is damaged: run securemqtt broker reload") from error


def _known(directory: Path) -> Mapping[str, object]:
    return read_json(directory / REVOKED_IDS, dict, "run securemqtt broker reload")


def _says(path: Path, anchor: x509.Certificate) -> bool:
    """Return True if a file has this anchor; another signature makes no difference."""
    with explained(f"read {path}"), suppress(FileNotFoundError, ValueError):
        there = x509.load_pem_x509_certificate(path.read_bytes())
        return there.tbs_certificate_bytes == anchor.tbs_certificate_bytes
    return False
