"""What must hold on a board before it tries its broker: Wi-Fi and a clock. The ladder of recovery:
socket, name, Wi-Fi.

A failed attempt alone has a new socket and resolves the name anew; after a few of them the radio is
switched off and on again.
"""

import time

from . import files
from ._compat import TYPE_CHECKING, const, log, now_ms, rarely, unix_time
from .failure import base, failure

if TYPE_CHECKING:
    from typing import Any

# Joining takes 2 to 10 s on the usual boards; an access point that is busy, a little more.
_JOIN_MS = const(20000)
_STEP_MS = const(250)
# So many attempts in a row that failed with Wi-Fi up, and the radio is started anew.
_ATTEMPTS_PER_RADIO = const(4)


def ready(settings: "dict[str, Any]", failures: int) -> "Any":
    """Return a generator that ends when an attempt makes sense; it yields how many ms to let pass.
    Raises WiFiNotConnected, ClockWrong.

    `failures` is how many attempts in a row have failed.
    """
    wlan = _radio()
    if wlan is not None:
        if failures and failures % _ATTEMPTS_PER_RADIO == 0:
            log("warning", "starting Wi-Fi anew")
            wlan.active(False)
        if not wlan.isconnected():
            yield from _joining(wlan, settings)
    _check_clock(settings)


def _radio() -> "Any":
    try:
        import network
    except ImportError:
        return None
    return network.WLAN(network.STA_IF)


def _joining(wlan: "Any", settings: "dict[str, Any]") -> "Any":
    try:
        access = files.read_json(settings["path"], "wifi.json")
    except base() as error:
        raise failure(
            "WiFiNotConnected", "Wi-Fi is down, and the bundle does not say how to join", str(error)
        )
    ssid = access.get("ssid")
    if not ssid or not isinstance(ssid, str):
        raise failure("WiFiNotConnected", "Wi-Fi is down, and wifi.json does not name one")
    try:
        wlan.active(True)
        wlan.connect(ssid, access.get("password") or None)
    except (OSError, TypeError, ValueError) as error:
        raise failure("WiFiNotConnected", "the radio does not take Wi-Fi " + ssid, str(error))
    deadline_ms = now_ms() + _JOIN_MS
    while not wlan.isconnected():
        if now_ms() > deadline_ms:
            raise failure("WiFiNotConnected", "no Wi-Fi " + ssid + " within 20 s", wlan.status())
        yield _STEP_MS
        _check_joining(wlan.status(), ssid)
    log("info", "joined Wi-Fi " + ssid)


def _check_joining(status: "Any", ssid: str) -> None:
    """Raise WiFiNotConnected where the radio has given up already, and says why: it would not join
    by itself any more.

    A firmware that goes on trying (the ESP32's, as it comes) says that it is connecting until the
    deadline.
    """
    import network

    if status == getattr(network, "STAT_WRONG_PASSWORD", None):
        raise rarely("diagnose").explain(
            "WiFiNotConnected",
            "the Wi-Fi " + ssid + " does not take the password",
            status,
            "password",
        )
    if status == getattr(network, "STAT_NO_AP_FOUND", None):
        raise rarely("diagnose").explain(
            "WiFiNotConnected", "no Wi-Fi of the name " + ssid + " is in range", status, "absent"
        )


def _check_clock(settings: "dict[str, Any]") -> None:
    """Set the clock where it is plainly wrong: by NTP, else to the time of provisioning.

    NTP proves nothing about its sender: what it says is taken only if it lies after the
    provisioning.
    """
    floor = settings["clock_floor"]
    # later than a clock that was set to the floor at start would be
    if unix_time() > floor + now_ms() // 1000 + 60:
        return
    if settings["ntp_host"]:
        _ask_ntp(settings["ntp_host"])
    if unix_time() < floor:
        _set_clock(floor)
        if unix_time() < floor:
            raise failure(
                "ClockWrong",
                "the clock says {}, before this device was provisioned".format(_date()),
            )
        log("warning", "the clock is set to the time of provisioning only: no NTP")


def _ask_ntp(host: str) -> None:
    try:
        import ntptime

        ntptime.host = host
        ntptime.timeout = 2
        ntptime.settime()
        log("info", "clock set by NTP to " + _date())
    except (ImportError, OSError, ValueError) as error:  # the last: an answer that is cut short
        log("warning", "no time from {}: {}".format(host, error))


def _set_clock(seconds: int) -> None:
    try:
        from machine import RTC
    except ImportError:
        return
    year, month, day, hour, minute, second, weekday = time.gmtime(
        seconds - (946684800 if time.gmtime(0)[0] == 2000 else 0)
    )[:7]
    RTC().datetime((year, month, day, weekday, hour, minute, second, 0))


def _date() -> str:
    return "{}-{:02}-{:02}".format(*time.gmtime()[:3])
