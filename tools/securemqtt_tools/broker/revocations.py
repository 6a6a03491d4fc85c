"""Who is revoked, in the files of a broker: its CRL, and what follows from that.

They belong together, so whoever hands a broker a CRL, or copies it to one elsewhere, hands over all
of them. The CRL is written last: who finds a new one finds the others new as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.memory import WEBSOCKETS_CA as WEBSOCKETS_CA
from securemqtt_tools.broker.memory import Memory
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority, layout
from securemqtt_tools.pki.crls import goes_back, issuer_of, number_of, serials
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.files import explained, read_json, write_files
from securemqtt_tools.pki.names import check_device_id, serial_text
from securemqtt_tools.pki.profiles import DEVICE, anchor_without
from securemqtt_tools.pki.tables import CrlRecord

CRL = layout.CRL
REVOKED_IDS = "revoked.json"
FILES = (layout.ROOT_CRL, REVOKED_IDS, WEBSOCKETS_CA, CRL)
_NO_DEVICE = ""  # whose a server's certificate is: nobody has to be put out for it


def hand_over(authority: Authority, directory: Path) -> CrlRecord:
    """Write the newest CRL, and what follows from it, into a directory.

    Of several processes that do so at once, none puts older files over newer ones. Raise FatalError
    when there is no CRL yet, when a file cannot be written, and when the CRL there says what the
    inventory does not know.
    """
    inventory, issuer = authority.inventory, authority.issuing_certificate
    with inventory.transaction():
        newest = inventory.newest_crl()
        if newest is None:
            raise FatalError("there is no CRL yet: run securemqtt ca crl")
        memory, crl = check(authority, directory), x509.load_pem_x509_crl(newest.pem)
        with suppress(FatalError):  # damaged, or not there
            there = read_crl(directory)
            if not memory.crls or memory.is_in_force(there):
                memory = memory.following(there)
        fault = memory.fault(crl, directory, [issuer])
        if fault:
            raise FatalError(fault)
        entries = {one.serial: one for one in inventory.entries() if one.state == REVOKED}
        ids: dict[str, str | None] = {}
        for line in crl:
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
        anchor = anchor_without(issuer, shut_out | inventory.forgotten()[1])
        ids[WEBSOCKETS_CA] = _print_of(anchor)
        files = {REVOKED_IDS: (json.dumps(ids, indent=1) + "\n").encode()}
        if _fingerprint(directory / WEBSOCKETS_CA) != ids[WEBSOCKETS_CA]:
            files[WEBSOCKETS_CA] = anchor.public_bytes(Encoding.PEM)
        files[CRL] = newest.pem
        if directory != authority.directory:
            root_crl = layout.read_root_crl(authority.directory)
            memory = memory.following(crl, root_crl)
            files = {**({layout.ROOT_CRL: root_crl} if root_crl else {}), **files}
            files[memory.name] = memory.content
        write_files(directory, files)
        if directory != authority.directory:
            memory.written(directory)  # in the place of the files of before
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
    if issuer_of(crl) != issuer_of(before):
        return None
    added = serials(crl) - serials(before)
    return revoked_ids(directory, added) if len(added) <= most else None


def check(authority: Authority, directory: Path) -> Memory:
    """Raise FatalError, before anything is changed, when a CRL of this authority's must not come
    into a broker's directory; return what is remembered there.
    """
    memory = Memory.read(directory)
    authority.check_knows(directory / CRL, *memory.files)
    return memory


def check_crl(directory: Path, memory: Memory | None = None) -> x509.CertificateRevocationList:
    """Return the CRL of a directory. Raise FatalError when that cannot be read, or must not follow
    what is remembered.
    """
    memory = Memory.read(directory) if memory is None else memory
    crl = read_crl(directory)
    fault = memory.fault(crl, directory)
    if fault:
        raise FatalError(fault)
    return crl


def check_installed(installed: Path, directory: Path) -> None:
    """Raise FatalError when the CRL of a directory must not follow the one that is installed. It is
    no fault of the authority's, if that is here: it knows the latter (`Authority.check_knows`).
    """
    with explained(f"read {installed}"):
        content = installed.read_bytes() if installed.is_file() else b""
    try:
        old = x509.load_pem_x509_crl(content)
    except ValueError:
        return
    new = check_crl(directory)
    before = Memory.read(directory)
    # Of an issuer that was never known here, only the time of day can tell.
    back = number_of(old) > number_of(new) and not before.knows(old)
    if goes_back(old, new) if issuer_of(old) == issuer_of(new) else back:
        raise FatalError(
            f"{installed} holds CRL {number_of(old)}, and {directory / CRL} the older "
            f"{number_of(new)}: nothing was changed, so that nobody who was revoked gets in again. "
            f"Run securemqtt broker reload first, which writes the newest; where the authority is "
            f"elsewhere, run securemqtt ca recover there with a copy of the newer one, then copy "
            f"its files here (docs/certificates.md)"
            + (f". If the older one is right, delete {installed}" if back else "")
        )


def incomplete(directory: Path) -> str:
    """Say which of the files that belong to a CRL came not with it, and what to do; "" where all
    did. Raise FatalError when the CRL cannot be read.
    """
    known: Mapping[str, object] = {}
    with suppress(FatalError):
        known = _known(directory)
    alone = sum(serial_text(line.serial_number) not in known for line in read_crl(directory))
    anchor = known.get(WEBSOCKETS_CA, "")  # unknown in a file of before this was written
    if not alone and (not anchor or anchor == _fingerprint(directory / WEBSOCKETS_CA)):
        return ""
    files = (one for one in FILES if one != layout.ROOT_CRL or (directory / one).exists())
    what = f"which do not know {alone} of those it lists"
    return (
        f"{directory / CRL} came without the files that belong to it, "
        f"{what if alone else f'since {WEBSOCKETS_CA} is another one'}: copy {', '.join(files)} "
        f"together from the authority's directory, or run securemqtt broker reload where the "
        f"authority is; until then who was revoked may get in over WebSockets"
    )


def read_crl(directory: Path) -> x509.CertificateRevocationList:
    """Read the CRL. Raise FatalError."""
    path = directory / CRL
    remedy = "run securemqtt broker reload, or copy it again from the authority's directory"
    with explained(f"read {path}"):
        if not path.exists():
            raise FatalError(f"there is no {path}: {remedy}")
        content = path.read_bytes()
    try:
        return x509.load_pem_x509_crl(content)
    except ValueError as error:
        raise FatalError(f"{path} is damaged, or is just being copied: {remedy}") from error


def _known(directory: Path) -> Mapping[str, object]:
    return read_json(directory / REVOKED_IDS, dict, "run securemqtt broker reload")


def _fingerprint(path: Path) -> str:
    """Return what tells anchors apart; another signature makes no difference."""
    with explained(f"read {path}"), suppress(FileNotFoundError, ValueError):
        return _print_of(x509.load_pem_x509_certificate(path.read_bytes()))
    return "none"


def _print_of(anchor: x509.Certificate) -> str:
    return sha256(anchor.tbs_certificate_bytes).hexdigest()
