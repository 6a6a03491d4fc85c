"""The server's key and certificate, and whom to trust, as Java reads them: two PKCS #12 files.

The format demands a password: a random one, in the configuration beside them, owner-only as they
are.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    load_pem_private_key,
    pkcs12,
)

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, write_files

KEYSTORE = "server.p12"
TRUSTSTORE = "trust.p12"


def write_stores(directory: Path, config: BrokerConfig, password: str) -> bool:
    """Write both files where what they hold has changed; return True if it has. Raise
    FatalError.
    """
    secret = password.encode()
    pem = _read(config.directory / files.SERVER)
    trust = _read(config.directory / files.CA)
    try:
        key = load_pem_private_key(pem, None)
        chain = x509.load_pem_x509_certificates(pem)
        anchors = x509.load_pem_x509_certificates(trust)
    except ValueError as error:
        raise FatalError(
            f"{files.SERVER} or {files.CA} in {config.directory} is damaged: run securemqtt broker "
            f"init --force"
        ) from error
    contents = {}
    # Trust first: of the two, HiveMQ may read the first before the second is there.
    if _certificates(directory / TRUSTSTORE, secret) != _der(anchors):
        contents[TRUSTSTORE] = _truststore(anchors, secret)
    if _certificates(directory / KEYSTORE, secret) != _der(chain):
        contents[KEYSTORE] = pkcs12.serialize_key_and_certificates(
            b"server",
            key,  # type: ignore[arg-type]  # any key that a certificate of ours may have
            chain[0],
            chain[1:],
            BestAvailableEncryption(secret),
        )
    if contents:
        write_files(directory, contents)
    return bool(contents)


def _truststore(anchors: list[x509.Certificate], secret: bytes) -> bytes:
    """Return a file that Java takes for trust: it looks for a mark of its own."""
    serialize = getattr(pkcs12, "serialize_java_truststore", None)
    if serialize is None:
        raise FatalError(
            "HiveMQ needs a file of trust that this cryptography cannot write: pip install "
            "'cryptography>=45'"
        )
    named = [
        pkcs12.PKCS12Certificate(one, f"anchor-{number}".encode())
        for number, one in enumerate(anchors)
    ]
    return bytes(serialize(named, BestAvailableEncryption(secret)))


def _certificates(path: Path, secret: bytes) -> list[bytes]:
    """Return what a file of ours holds, none where it has another password or is not there."""
    if not path.exists():
        return []
    try:
        found = pkcs12.load_pkcs12(_read(path), secret)
    except ValueError:
        return []
    all_ = [found.cert] if found.cert is not None else []
    return _der([one.certificate for one in (*all_, *found.additional_certs)])


def _der(certificates: list[x509.Certificate]) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in certificates]


def _read(path: Path) -> bytes:
    with explained(f"read {path}"):
        return path.read_bytes()
