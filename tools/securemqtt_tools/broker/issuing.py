"""A broker's own issuing key: it makes the broker's certificates, each for a short time, where the
authority is not.

It may issue for this broker's names alone, and no further CA. Whoever takes the broker's files has
one short-lived certificate and an encrypted key; the authority is elsewhere.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.broker.config import ISSUER, ISSUER_KEY, SERVER, BrokerConfig
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.clock import check_clock
from securemqtt_tools.pki.files import write_files
from securemqtt_tools.pki.issued import certificate_pem
from securemqtt_tools.pki.keys import Passphrase, key_pem, load_key
from securemqtt_tools.pki.profiles import Issuer, short_server

# How long the certificates live that it makes.
DAYS = range(30, 91)
RENEWED_AFTER = 1 / 3
PUBLIC = (
    "this broker shows a public certificate, which certbot or its like renews: it needs no issuing "
    "key"
)


def set_up(
    config: BrokerConfig,
    authority: Authority,
    passphrase: bytes,
    *,
    days: int,
    root_key: Path | None = None,
) -> BrokerConfig:
    """Give a broker an issuing key, encrypted with `passphrase`, and its first certificate from it;
    return the settings that go with it. Raise FatalError.
    """
    if config.is_public:
        raise FatalError(PUBLIC)
    issuer = authority.certify_issuer(config.names, root_key=root_key)
    write_files(
        config.directory,
        {
            ISSUER: certificate_pem(issuer.certificate),
            ISSUER_KEY: key_pem(issuer.key, passphrase),
            SERVER: _server(config, issuer, authority.now, days),
        },
    )
    return config.changed(certificate_days=days)


def renew(
    config: BrokerConfig, passphrase: Passphrase, now: datetime, always: bool = False
) -> bool:
    """Issue a new certificate with a new key for the broker when a third of the old one's life is
    over, or `always`; return True if there is one.

    The passphrase is asked for only then. Raise FatalError.
    """
    if not config.has_issuer:
        raise FatalError(
            f"there is no issuing key in {config.directory}: securemqtt broker issuer makes one, "
            f"where the authority is"
        )
    old = config.server_certificate()
    begin, end = old.not_valid_before_utc, old.not_valid_after_utc
    if not always and now <= begin + (end - begin) * RENEWED_AFTER:
        return False
    certificate = config.issuer_certificate()
    if now >= certificate.not_valid_after_utc:
        raise FatalError(
            f"the issuing key's certificate ended on {certificate.not_valid_after_utc:%Y-%m-%d}: "
            f"run securemqtt broker issuer where the authority is"
        )
    check_clock(now, certificate)
    key = load_key(config.directory / ISSUER_KEY, certificate, passphrase)
    server = _server(config, Issuer(certificate, key), now, config.certificate_days)
    write_files(config.directory, {SERVER: server})
    return True


def _server(config: BrokerConfig, issuer: Issuer, now: datetime, days: int) -> bytes:
    certificate, key = short_server(config.names, issuer, now, days)
    chain = (certificate, issuer.certificate)
    return key_pem(key) + b"".join(one.public_bytes(Encoding.PEM) for one in chain)
