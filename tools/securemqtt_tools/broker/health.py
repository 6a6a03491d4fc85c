"""What an operator should know about a broker before it shuts everybody out: its certificate or its
CRL runs out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.cli import FatalError

_NOTICE = timedelta(days=60)
# A public one lives for 90 days or less, and is renewed when a third of that is left.
_PUBLIC_NOTICE = timedelta(days=10)
_RENEWAL = "see why certbot, or what renews it, did not, then run securemqtt broker reload"
_REMEDY = "run securemqtt broker reload where the authority is"


def warnings(config: BrokerConfig, now: datetime) -> list[str]:
    """Return one line for each thing that needs attention soon.

    Raise FatalError for what is too late already.
    """
    found = []
    crl = config.crl()
    periods = [("its CRL", crl.last_update_utc, crl.next_update_utc, "every device is refused")]
    certificate = config.server_certificate()
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    periods.append(("its certificate", begin, end, "no device connects"))
    for what, begin, last, effect in periods:
        public = config.is_public and last == end
        notice, remedy = (_PUBLIC_NOTICE, _RENEWAL) if public else (_NOTICE, _REMEDY)
        if last is None or now > last:
            raise FatalError(
                f"the broker cannot run: {what} has run out, so that {effect}; {remedy}"
            )
        if now < begin:
            raise FatalError(
                f"the broker cannot run: {what} begins on {begin:%Y-%m-%d}; set this computer's "
                f"clock"
            )
        if last - now < notice:
            found.append(f"{what} runs out on {last:%Y-%m-%d}, and then {effect}: {remedy}")
    return found
