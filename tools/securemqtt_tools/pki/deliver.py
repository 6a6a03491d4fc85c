"""Writing what was issued to files, for those who want files: PEM for a Pi or a broker, DER for a
board.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.files import make_directory, write_files
from securemqtt_tools.pki.issued import Issued, certificate_der, certificate_pem


def prepare(directory: Path, role: str, replacing: bool) -> None:
    """Make the directory that files will go to, before anything is issued.

    Raise FatalError when it cannot be made, and when it holds a private key already and
    `replacing` is false.
    """
    for key in (directory / f"{role}.key", directory / f"{role}.key.der"):
        if key.exists() and not replacing:
            raise FatalError(
                f"{key} exists and was left as it is: choose another directory, or renew"
            )
    make_directory(directory)


def deliver(
    authority: Authority,
    issued: Issued,
    directory: Path,
    der: bool = False,
    key_passphrase: bytes | None = None,
) -> list[Path]:
    """Write certificate, private key (if it is here) and trust anchors; return the files, in the
    order of use.

    Each file is owner-only and whole or absent; a kill between two of them can leave a new key
    beside an old certificate, which renewing mends. Of two processes that renew at once, the files
    of the later one stay. Raise FatalError that says how to go on.
    """
    anchors = authority.trust_anchors()
    files = _der_files(issued, anchors) if der else _pem_files(issued, anchors, key_passphrase)
    with authority.handing_out(issued):
        try:
            write_files(directory, files)
        except FatalError as error:
            raise issued.not_handed_out(error) from error
    return [directory / name for name in files]


def foreign_keys(issued: Issued, directory: Path) -> list[Path]:
    """Return the private keys in a directory that do not fit a certificate delivered there: of one
    before it. What is encrypted, or cannot be read, is not looked at.
    """
    found = []
    for name in (f"{issued.role}.key", f"{issued.role}.key.der"):
        path = directory / name
        load = load_der_private_key if path.suffix == ".der" else load_pem_private_key
        try:
            key = load(path.read_bytes(), None)
        except (OSError, TypeError, ValueError, UnsupportedAlgorithm):  # TypeError: encrypted
            continue
        if key.public_key() != issued.certificate.public_key():
            found.append(path)
    return found


def _pem_files(
    issued: Issued, trust_anchors: Sequence[x509.Certificate], key_passphrase: bytes | None
) -> dict[str, bytes]:
    files = {f"{issued.role}.crt": issued.chain_pem()}
    if issued.key is not None:
        files[f"{issued.role}.key"] = issued.key_pem(key_passphrase)
    files["ca.crt"] = b"".join(certificate_pem(one) for one in trust_anchors)
    return files


def _der_files(issued: Issued, trust_anchors: Sequence[x509.Certificate]) -> dict[str, bytes]:
    names = (f"{issued.role}.der", "intermediate.der")
    files = dict(zip(names, issued.chain_der(), strict=False))
    if issued.key is not None:
        files[f"{issued.role}.key.der"] = issued.key_der()
    for number, one in enumerate(trust_anchors):
        files["ca.der" if number == 0 else f"ca{number}.der"] = certificate_der(one)
    return files
