"""The time, and whether it can be true: a certificate dated by a wrong clock is refused everywhere
else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TypeAlias

from cryptography import x509

from securemqtt_tools.cli import FatalError

Clock: TypeAlias = Callable[[], datetime]

# No authority of this program is older than the program, so a clock that shows less is wrong (a Pi
# without a battery starts in 1970).
_FLOOR = datetime(2025, 1, 1, tzinfo=timezone.utc)


def system_clock() -> datetime:
    """Return the time in UTC, in whole seconds, as certificates have it."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def check_clock(now: datetime, certificate: x509.Certificate | None = None) -> None:
    """Raise FatalError when `now` is plainly wrong, or outside the validity of the CA's
    `certificate`.
    """
    start = max(_FLOOR, certificate.not_valid_before_utc) if certificate else _FLOOR
    if now < start:
        raise FatalError(
            f"this computer's clock shows {now:%Y-%m-%d %H:%M} UTC, but it is later than "
            f"{start:%Y-%m-%d %H:%M}, when "
            f"this {'program' if start == _FLOOR else 'authority'} was made: set the clock and "
            f"try again"
        )
    if certificate and now >= certificate.not_valid_after_utc:
        raise FatalError(
            f"the authority's certificate ended on {certificate.not_valid_after_utc:%Y-%m-%d}, "
            f"and this computer's clock shows {now:%Y-%m-%d}: make a new authority, or correct "
            f"the clock"
        )
