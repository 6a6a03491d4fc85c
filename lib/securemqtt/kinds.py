"""What happened on the network, as an error of ours.

Part of the diagnosis. What a broker's alerts mean is in alerts.py.
"""

import time

from ._compat import TYPE_CHECKING, const, rarely, unix_time
from .diagnose import explain

if TYPE_CHECKING:
    from typing import Any

    from .errors import SecureMQTTError

# No device was provisioned before 2025: a clock that shows less is wrong, whatever the bundle's
# clock_floor.
_EARLIEST_S = const(1735689600)

# What happened, as classify and probe say it: the error's class, and `what` with the broker's host
# and port for {}.
_KINDS = {
    "memory": ("OutOfMemory", "memory ran out in talking to {}"),
    "offline": (
        "WiFiNotConnected",
        "the Wi-Fi of this board is not connected, so {} is out of reach",
    ),
    "unresolved": ("NameNotResolved", "the name in {} cannot be resolved"),
    "unreachable": ("NetworkError", "there is no way to {}"),
    "refused": ("ConnectionRefused", "{} refused the connection"),
    "silent": ("TimedOut", "no answer from {} in time"),
    "closed": ("ConnectionLost", "the connection to {} was lost"),
    "full": ("BrokerFull", "{} closed the connection as soon as it stood"),
    "plain": ("NotTLS", "{} does not answer in TLS"),
    "version": ("TLSVersionTooOld", "{} offers no version of TLS from 1.2 on"),
    "untrusted": ("UnknownCA", "no CA that this device trusts has issued the certificate of {}"),
    "expired": ("CertificateExpired", "the certificate of {} has expired"),
    "future": ("CertificateNotYetValid", "the certificate of {} is not valid yet"),
    "name": (
        "HostNameMismatch",
        "the certificate of {} does not have the name that this device calls it by",
    ),
    "certificate": ("HandshakeFailed", "the certificate of {} is not acceptable"),
    "other": ("HandshakeFailed", "the TLS handshake with {} failed"),
}


def explained(
    kind: str, code: object, alert: "int | None", stage: str, settings: "dict[str, Any]"
) -> "SecureMQTTError":
    """Make the error for a kind of fault, met in `stage`, with its raw code and the TLS alert if
    one is known.
    """
    if kind in ("alert", "dropped"):
        return _of_alert(alert, code, settings)
    name, what = _KINDS[kind]
    what = what.format("{}:{}".format(settings["host"], settings["port"]))
    if kind in ("expired", "future"):
        what += "; this device's clock says {}-{:02d}-{:02d} {:02d}:{:02d} UTC".format(
            *time.gmtime()[:5]
        )
        if kind == "future" and unix_time() < max(settings["clock_floor"], _EARLIEST_S):
            name = "ClockWrong"
    return explain(
        name, what, code, "certificate" if kind == "certificate" else stage, settings["host"]
    )


def _of_alert(alert: object, code: object, settings: "dict[str, Any]") -> "SecureMQTTError":
    name, what, variant = rarely("alerts").verdict(alert, settings)
    if alert is not None:
        code = "{}, TLS alert {}".format(code, alert)
    return explain(name, what, code, variant, settings["host"])
