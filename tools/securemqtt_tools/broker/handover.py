"""What a broker's directory has from the authority: the CRL, the devices, the rules."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from securemqtt_tools.broker import devices, revocations
from securemqtt_tools.broker.rules_file import reconcile
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.health import crl_fault


def hand_over(authority: Authority, directory: Path) -> None:
    """Bring a broker's directory up to date, all but the server's certificate and what follows
    from the settings; have another CRL signed where it is time. Raise FatalError, as
    `revocations.check` does.
    """
    revocations.check(authority, directory)
    now, last = authority.now, authority.issuing_certificate.not_valid_after_utc
    newest = authority.inventory.newest_crl()
    unlisted = any(
        one.state == REVOKED and one.in_crl is None and one.not_after > now
        for one in authority.inventory.entries()
    )
    if (
        newest is None
        or unlisted
        or crl_fault(authority)
        or is_aged(newest.issued_at, newest.next_update, now, last, 2 / 3)
    ):
        authority.crl_pem()
    revocations.hand_over(authority, directory)
    devices.hand_over(authority, directory)
    with authority.inventory.transaction():  # the lock of whoever changes the rules
        reconcile(authority.directory, directory)


def is_aged(begin: datetime, end: datetime, now: datetime, last: datetime, part: float) -> bool:
    """Say whether a part of a life is over, and a new one would end later: nothing outlives its
    issuer.
    """
    return now > begin + (end - begin) * part and end < last
