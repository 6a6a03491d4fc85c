"""The authority's directory: what its files are called, and how it comes into being whole or not at
all.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.clock import check_clock
from securemqtt_tools.pki.entry import REVOKED, Entry
from securemqtt_tools.pki.files import explained, make_directory, sync_directory, write_files
from securemqtt_tools.pki.inventory import Inventory
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.keys import Passphrase, check_public_key, generate_key, key_pem, load_key
from securemqtt_tools.pki.names import name_text, server_names
from securemqtt_tools.pki.profiles import (
    BACKDATE,
    Issuer,
    Revocation,
    ca_certificate,
    revocation_list,
)
from securemqtt_tools.pki.succession import strangers
from securemqtt_tools.sudo import meant_instead

INVENTORY = "inventory.sqlite"
ROOT_CERTIFICATE = "root.crt"
ROOT_KEY = "root.key"
ROOT_CRL = "root-crl.pem"
CRL = "crl.pem"
INTERMEDIATE_CERTIFICATE = "intermediate.crt"
INTERMEDIATE_KEY = "intermediate.key"
ISSUED = "issued"  # the files that were asked for

ROOT = "root"
INTERMEDIATE = "intermediate"
ISSUER = "issuer"  # a broker's own, for its names alone
LIFETIME = {ROOT: timedelta(days=20 * 365), INTERMEDIATE: timedelta(days=10 * 365)}
_LONGEST_NAME = 50  # leaves room for " intermediate" in a common name of 64


def check_exists(directory: Path) -> None:
    """Raise FatalError unless `directory` holds an authority."""
    with explained(f"look into {directory}"):
        missing = [
            name for name in (ROOT_CERTIFICATE, INVENTORY) if not (directory / name).exists()
        ]
    if len(missing) == 2:
        remedy = meant_instead(directory / INVENTORY) or "make one with securemqtt ca init"
        raise FatalError(f"there is no certificate authority in {directory}: {remedy}")
    if missing:
        raise FatalError(f"{directory / missing[0]} is missing: restore it from a backup")


def load_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM; FatalError when that fails."""
    with explained(f"read {path}"):
        content = path.read_bytes()
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise FatalError(f"{path} is damaged: restore it from a backup") from error


def read_root_crl(directory: Path) -> bytes:
    """Read the CRL of the root, which lists intermediates; b"" where there is none. Raise
    FatalError.
    """
    path = directory / ROOT_CRL
    with explained(f"read {path}"):
        return path.read_bytes() if path.is_file() else b""


def crl_bytes(crl: x509.CertificateRevocationList) -> bytes:
    """Return a CRL in PEM."""
    return crl.public_bytes(serialization.Encoding.PEM)


def create(
    directory: Path,
    name: str | None,
    passphrase: bytes | None,
    intermediate: bool,
    key_type: str,
    now: datetime,
) -> None:
    """Make an authority's directory.

    Raise FatalError when there is something in its place, or it cannot be made.
    """
    check_clock(now)
    chosen = _check_name(name or f"securemqtt {secrets.token_hex(3)}")
    if passphrase is not None and not passphrase:
        raise FatalError("the passphrase is empty")
    with _staging(directory) as staged:
        files = _certificates(staged, chosen, passphrase, intermediate, key_type, now)
        write_files(staged, files)


def _certificates(
    staged: Path,
    name: str,
    passphrase: bytes | None,
    intermediate: bool,
    key_type: str,
    now: datetime,
) -> dict[str, bytes]:
    """Make keys and certificates, record them in a new inventory, and return the files to write."""
    inventory = Inventory(staged / INVENTORY)
    inventory.initialise()
    root_key = generate_key(key_type)
    root = ca_certificate(
        f"{name} root" if intermediate else name,
        root_key.public_key(),
        1,  # for the intermediate, or for the issuing key of a broker
        now - BACKDATE,
        now + LIFETIME[ROOT],
        root_key,
    )
    inventory.record(_entry(ROOT, root, now))
    files = {ROOT_CERTIFICATE: certificate_pem(root), ROOT_KEY: key_pem(root_key, passphrase)}
    if intermediate:
        key, issuer, end = (
            generate_key(key_type),
            Issuer(root, root_key),
            now + LIFETIME[INTERMEDIATE],
        )
        certificate = ca_certificate(
            f"{name} intermediate", key.public_key(), 0, now - BACKDATE, end, issuer
        )
        inventory.record(_entry(INTERMEDIATE, certificate, now))
        files[INTERMEDIATE_CERTIFICATE] = certificate_pem(certificate)
        files[INTERMEDIATE_KEY] = key_pem(key, passphrase)
        # Whoever checks the whole chain wants the root's CRL as well; it lasts as long as what it
        # speaks of.
        files[ROOT_CRL] = _root_crl(inventory, issuer, _crl_number(now), now, end)
    return files


def renew_intermediate(
    directory: Path, root_key_file: Path | None, passphrase: Passphrase, now: datetime
) -> x509.Certificate:
    """Certify the intermediate's key anew, for a full lifetime from now; this alone needs the
    root's key again.

    The key stays, so what it has signed stays valid, and devices need nothing but the new
    certificate when they renew. `root_key_file` says where the root's key is, if not in its place.
    Raise FatalError.
    """
    if not (directory / INTERMEDIATE_CERTIFICATE).exists():
        raise FatalError("this authority has no intermediate: its root signs everything itself")
    root, old = (
        load_certificate(directory / name) for name in (ROOT_CERTIFICATE, INTERMEDIATE_CERTIFICATE)
    )
    check_clock(now, root)
    issuer = _root_issuer(directory, root, root_key_file, passphrase)
    end = min(now + LIFETIME[INTERMEDIATE], root.not_valid_after_utc)
    name = str(old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    certificate = ca_certificate(
        name, check_public_key(old.public_key()), 0, now - BACKDATE, end, issuer
    )
    inventory = Inventory(directory / INVENTORY)
    inventory.record(_entry(INTERMEDIATE, certificate, now), replacing=True)
    crl = _root_crl(inventory, issuer, _crl_number(now), now, end)
    write_files(directory, {INTERMEDIATE_CERTIFICATE: certificate_pem(certificate), ROOT_CRL: crl})
    return certificate


def replace_intermediate(
    directory: Path,
    root_key_file: Path | None,
    passphrase: Passphrase,
    now: datetime,
    witnesses: Iterable[Path] = (),
) -> x509.Certificate:
    """Revoke the intermediate, whose key was stolen, and make another with a new key and name, by
    the root's key. What the old one has issued is superseded: brokers refuse it as soon as they
    have the new CRL.

    The new key gets the root key's passphrase. An intermediate that `witnesses` show, and that the
    inventory has forgotten, is revoked as well. Raise FatalError.
    """
    if not (directory / INTERMEDIATE_CERTIFICATE).exists():
        raise FatalError(
            "this authority has no intermediate: when its root's key was stolen, make a new one"
        )
    root = load_certificate(directory / ROOT_CERTIFICATE)
    check_clock(now, root)
    secrets_read: list[bytes] = []

    def once() -> bytes:
        secrets_read.append(passphrase() if callable(passphrase) else passphrase or b"")
        return secrets_read[0]

    issuer = _root_issuer(directory, root, root_key_file, once)
    inventory = Inventory(directory / INVENTORY)
    title = str(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    # 64 characters at most; another one also within a second, and with a clock that was put back
    chosen = f"{_crl_number(now)}-{secrets.token_hex(3)}"
    name = f"{title.removesuffix(' root')[:28]} intermediate {chosen}"
    key, end = generate_key("p256"), min(now + LIFETIME[INTERMEDIATE], root.not_valid_after_utc)
    certificate = ca_certificate(name, key.public_key(), 0, now - BACKDATE, end, issuer)
    number = _crl_number(now)
    old = load_certificate(directory / INTERMEDIATE_CERTIFICATE)
    unknown = {one for path in witnesses for one in strangers(inventory, root, old, path)}
    forgotten = [_entry(INTERMEDIATE, one, now) for one in unknown]
    inventory.replace_intermediate(_entry(INTERMEDIATE, certificate, now), number, forgotten)
    files = {
        INTERMEDIATE_KEY: key_pem(key, secrets_read[0] if secrets_read else None),
        INTERMEDIATE_CERTIFICATE: certificate_pem(certificate),
        ROOT_CRL: _root_crl(inventory, issuer, number, now, end),
    }
    write_files(directory, files)
    return certificate


def _crl_number(now: datetime) -> int:
    return int(f"{now:%Y%m%d%H%M%S}")


def _root_crl(
    inventory: Inventory, issuer: Issuer, number: int, now: datetime, end: datetime
) -> bytes:
    """Return the CRL of the root, which lists the intermediates that were revoked."""
    lines = [
        Revocation(int(one.serial, 16), one.changed_at, x509.ReasonFlags(one.reason))
        for one in inventory.entries(INTERMEDIATE)
        if one.state == REVOKED
    ]
    return crl_bytes(revocation_list(issuer, number, now - BACKDATE, end, lines))


def certify_issuer(
    directory: Path,
    names: Sequence[str],
    root_key_file: Path | None,
    passphrase: Passphrase,
    now: datetime,
    days: int,
) -> Issuer:
    """Make a key that may issue servers' certificates for `names`, and nothing else, and certify it
    with the root's key; `root_key_file` says where that is, if not in its place.

    Raise FatalError, also where the root allows no such key.
    """
    root = load_certificate(directory / ROOT_CERTIFICATE)
    check_clock(now, root)
    allowed = root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if allowed == 0:
        raise FatalError(
            "the root of this authority allows no key below it but those of devices and servers: "
            "it was made by an earlier securemqtt. A new authority does"
        )
    signer = _root_issuer(directory, root, root_key_file, passphrase)
    alternatives = server_names(names)
    key = generate_key("p256")
    end = min(now + timedelta(days=days), root.not_valid_after_utc)
    title = f"{name_text(alternatives[0])[:_LONGEST_NAME]} issuer"
    begin = max(now - BACKDATE, root.not_valid_before_utc)
    certificate = ca_certificate(title, key.public_key(), 0, begin, end, signer, alternatives)
    Inventory(directory / INVENTORY).record(_entry(ISSUER, certificate, now), replacing=True)
    return Issuer(certificate, key)


def _root_issuer(
    directory: Path, root: x509.Certificate, root_key_file: Path | None, passphrase: Passphrase
) -> Issuer:
    path = root_key_file or directory / ROOT_KEY
    if not path.exists():
        raise FatalError(
            f"the root's private key {path} is not here: say with --root-key FILE where it is kept "
            f"offline"
        )
    return Issuer(root, load_key(path, root, passphrase))


def _entry(role: str, certificate: x509.Certificate, now: datetime) -> Entry:
    public_key = check_public_key(certificate.public_key())
    return Entry.of(certificate, public_key, role, certificate.subject.rfc4514_string(), now)


def _check_name(name: str) -> str:
    if not name.isprintable() or not name.strip() or len(name) > _LONGEST_NAME:
        raise FatalError(
            f"{name!r} cannot name an authority: use 1 to {_LONGEST_NAME} printable characters"
        )
    return name


@contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    """Return a directory to fill; it becomes `directory` when the block ends, and vanishes when the
    block raises.

    What an earlier, killed attempt left behind is removed: nobody was handed anything from it.
    """
    refuse_existing(directory)
    make_directory(directory.absolute().parent)
    staged = directory.absolute().parent / f".{directory.name}.unfinished"
    with explained(f"make {directory}"), _locked_directory(staged):
        for leftover in staged.iterdir():
            leftover.unlink()
        try:
            yield staged
            sync_directory(staged)
            refuse_existing(directory)
            staged.rename(directory)  # replaces an empty directory, and fails on any other
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync_directory(directory.absolute().parent)


@contextmanager
def _locked_directory(path: Path) -> Iterator[None]:
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise BlockingIOError
        yield
    except BlockingIOError:
        raise FatalError(
            "another process is making this authority at this moment: wait until it is done"
        ) from None
    finally:
        os.close(descriptor)


def refuse_existing(directory: Path) -> None:
    """Raise FatalError when `directory` is an authority already, or holds something else."""
    if (directory / ROOT_CERTIFICATE).exists():
        raise FatalError(
            f"there is a certificate authority in {directory} already; it was left as it is"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FatalError(
            f"{directory} is in use for something else: choose another place with --home"
        )
