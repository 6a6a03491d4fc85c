"""What an operator should know about a broker before it shuts everybody out: its certificate or its
CRL runs out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.revocations import check_crl, incomplete
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.crls import issuer_of

_CRL = "its CRL"
_CRL_NOTICE = timedelta(days=60)
# A public one lives for 90 days or less, and is renewed when a third of that is left.
_PUBLIC_NOTICE = timedelta(days=10)
_PUBLIC_RENEWAL = "see why certbot, or what renews it, did not, then run securemqtt broker reload"
_RENEW = (
    "run securemqtt broker renew, and see why what should do that every day does not (docs/"
    "certificates.md)"
)
_ISSUER = "run securemqtt broker issuer where the authority is"
_RELOAD = "run securemqtt broker reload where the authority is"


class _Period(NamedTuple):
    """How long something is valid, and when its end is to be told."""

    what: str
    begin: datetime
    end: datetime | None
    effect: str
    notice: timedelta
    remedy: str


def warnings(config: BrokerConfig, now: datetime, *, only_crl_counts: bool = False) -> list[str]:
    """Return one line for each thing that needs attention soon.

    Raise FatalError for what is too late already; with `only_crl_counts` a certificate that is not
    valid is a line, too, since a new CRL has to reach the running broker all the same.
    """
    found = []
    for one in _periods(config):
        problem = _problem(one, now)
        if problem and (one.what == _CRL or not only_crl_counts):
            raise FatalError(f"the broker cannot run: {problem}")
        if problem:
            found.append(problem)
        elif one.end is not None and one.end - now < one.notice:
            found.append(
                f"{one.what} runs out on {one.end:%Y-%m-%d}, and then {one.effect}: {one.remedy}"
            )
    revoked = revocation_of(config)
    if revoked:
        found.append(
            f"its certificate was revoked on {revoked:%Y-%m-%d}, and devices take it all the same, "
            f"from whoever has its key: {_RELOAD}, which makes another"
        )
    try:
        check_crl(config.directory)
    except FatalError as error:
        found.append(str(error))
    found.append(incomplete(config.directory))
    return [line for line in found if line]


def revocation_of(config: BrokerConfig) -> datetime | None:
    """Return when the broker's own certificate was revoked, as its CRL says; None if it was not.
    Raise FatalError.
    """
    crl, certificate = config.crl(), config.server_certificate()
    if issuer_of(crl) != issuer_of(certificate):  # public, or by its issuing key
        return None
    line = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    return line.revocation_date_utc if line is not None else None


def _problem(one: _Period, now: datetime) -> str:
    """Say why something is not valid now; "" if it is."""
    if one.end is None or now > one.end:
        return f"{one.what} has run out, so that {one.effect}; {one.remedy}"
    if now < one.begin:
        return (
            f"{one.what} begins on {one.begin:%Y-%m-%d %H:%M} UTC: set this computer's clock if it "
            f"is behind; else that of the authority was ahead, and {one.remedy}"
        )
    return ""


def _periods(config: BrokerConfig) -> Iterator[_Period]:
    crl = config.crl()
    shut = "every device is refused"
    yield _Period(_CRL, crl.last_update_utc, crl.next_update_utc, shut, _CRL_NOTICE, _RELOAD)
    certificate = config.server_certificate()
    if config.is_public:
        yield _period("its certificate", certificate, _PUBLIC_NOTICE, _PUBLIC_RENEWAL)
        return
    remedy = _RENEW if config.has_issuer else _RELOAD
    yield _period("its certificate", certificate, _half_life(certificate), remedy)
    if config.has_issuer:
        issuer = config.issuer_certificate()
        yield _period("its issuing key's certificate", issuer, _half_life(issuer), _ISSUER)


def _period(what: str, one: x509.Certificate, notice: timedelta, remedy: str) -> _Period:
    begin, end = one.not_valid_before_utc, one.not_valid_after_utc
    return _Period(what, begin, end, "no device connects", notice, remedy)


def _half_life(one: x509.Certificate) -> timedelta:
    """Return half of a certificate's life: it is renewed after a third, so what should have done
    that has failed by then.
    """
    return (one.not_valid_after_utc - one.not_valid_before_utc) / 2
