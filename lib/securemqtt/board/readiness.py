"""What must hold before a device tries its broker: on a board Wi-Fi, everywhere a usable clock.

This is the upper end of the ladder of recovery: socket, name, Wi-Fi. A failed attempt alone has a
new socket and resolves the name anew; after a few of them the radio is switched off and on again.
"""

import time

from .. import bundle
from ..log import log, printable
from ..platform import BOARD, const, now_ms, unix_time

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..errors import WiFiNotConnected
    from ..settings import Settings

# Joining takes 2 to 10 s on the usual boards; an access point that is busy, a little more.
_JOIN_MS = const(20000)
_STEP_MS = const(250)
# So many attempts in a row that failed with Wi-Fi up, and the radio is started anew.
_ATTEMPTS_PER_RADIO = const(4)
# Seconds from 1970 to 2000: where some ports' clocks begin.
_EPOCH_2000_S = const(946684800)


def ready(settings: "Settings", failures: int) -> "Iterator[int]":
    """Return a generator that ends when an attempt makes sense; it yields how many ms to let pass.

    `failures` is how many attempts in a row have failed. Raise WiFiNotConnected, ClockWrong.
    Setting the clock by NTP blocks for 2 s at most, beside resolving the server's name.
    """
    if BOARD:
        yield from prepare_board(settings, failures)
    check_clock(settings)


def prepare_board(settings: "Settings", failures: int) -> "Iterator[int]":
    """Return a generator that brings up a board's Wi-Fi and sets its clock; see `ready`."""
    wlan = _radio(settings)
    if wlan is not None:
        if failures and failures % _ATTEMPTS_PER_RADIO == 0:
            log("warning", "starting Wi-Fi anew")
            wlan.active(False)
        if not wlan.isconnected():
            yield from _joining(wlan, settings)
    set_clock_if_wrong(settings)


def _radio(settings: "Settings") -> "Any":
    """Return a board's Wi-Fi; None where there is none to bring up.

    A board may have a cable or a modem in its place, or beside it. Those are the program's to bring
    up, and so is Wi-Fi then if the bundle does not say how to join.
    """
    try:
        import network
    except ImportError:
        return None
    if not hasattr(network, "WLAN"):
        return None
    other = hasattr(network, "LAN") or hasattr(network, "PPP")
    if other and not bundle.exists(bundle.path_of(settings.path, "wifi.json")):
        return None
    return network.WLAN(network.STA_IF)


def _joining(wlan: "Any", settings: "Settings") -> "Iterator[int]":
    ssid, password = _access(settings)
    try:
        wlan.active(True)
        wlan.connect(ssid, password)
    except (OSError, TypeError, ValueError) as error:
        raise _not_connected("the radio does not take Wi-Fi " + printable(ssid), str(error))
    deadline_ms = now_ms() + _JOIN_MS
    while not wlan.isconnected():
        if now_ms() > deadline_ms:
            raise _not_connected("no Wi-Fi " + printable(ssid) + " within 20 s", wlan.status())
        yield _STEP_MS
        _check_joining(wlan.status(), ssid)
    log("info", "joined Wi-Fi " + printable(ssid))


def _access(settings: "Settings") -> "tuple[str, str | None]":
    """Return name and password of the Wi-Fi, as provisioning has put them into wifi.json."""
    try:
        access = bundle.read_json(settings.path, "wifi.json")
    except Exception as error:
        from ..errors import BundleError

        if not isinstance(error, BundleError):
            raise
        what = "Wi-Fi is down, and the bundle does not say how to join"
        raise _not_connected(what, error.what)
    ssid = access.get("ssid")
    if not ssid or not isinstance(ssid, str):
        raise _not_connected("Wi-Fi is down, and wifi.json does not name one", None)
    return ssid, access.get("password") or None


def _check_joining(status: "Any", ssid: str) -> None:
    """Raise WiFiNotConnected where the radio has given up already, and says why: it would not join
    by itself any more.

    A firmware that goes on trying (the ESP32's, as it comes) says that it is connecting until the
    deadline.
    """
    import network

    ssid = printable(ssid)
    wrong_password = status == getattr(network, "STAT_WRONG_PASSWORD", None)
    if wrong_password or status == getattr(network, "STAT_NO_AP_FOUND", None):
        from ..errors import WiFiNotConnected

        if wrong_password:
            what = "the Wi-Fi " + ssid + " does not take the password"
            raise WiFiNotConnected(what, status, "password")
        raise WiFiNotConnected("no Wi-Fi of the name " + ssid + " is in range", status, "absent")


def _not_connected(what: str, code: object) -> "WiFiNotConnected":
    from ..errors import WiFiNotConnected

    return WiFiNotConnected(what, code)


# The clock, without which no certificate can be judged


def check_clock(settings: "Settings") -> None:
    """Raise ClockWrong if the clock shows a time before this device was provisioned."""
    if unix_time() < settings.clock_floor:
        from ..errors import ClockWrong

        raise ClockWrong("the clock says " + _date() + ", before this device was provisioned")


def set_clock_if_wrong(settings: "Settings") -> None:
    """Set a board's clock where it is plainly wrong: by NTP, else to the time of provisioning.

    It starts at a fixed date whenever power comes on. NTP proves nothing about its sender: what it
    says is taken only if it lies after the provisioning.
    """
    floor = settings.clock_floor
    # Later than a clock that was set to the floor at start would be.
    if unix_time() > floor + now_ms() // 1000 + 60:
        return
    if settings.ntp_host:
        _ask_ntp(settings.ntp_host)
    if unix_time() < floor:
        _set_clock(floor)
        if unix_time() >= floor:
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
    begins = _EPOCH_2000_S if time.gmtime(0)[0] == 2000 else 0
    year, month, day, hour, minute, second, weekday = time.gmtime(seconds - begins)[:7]
    RTC().datetime((year, month, day, weekday, hour, minute, second, 0))


def _date() -> str:
    return "{}-{:02}-{:02}".format(*time.gmtime()[:3])
