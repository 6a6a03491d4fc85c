"""What must hold on a board before it tries its broker: Wi-Fi and a clock. The radio and the NTP
client are the test's own here.

The tests of the simulated board run it against a board's modules.
"""

import json
import sys
import time

from securemqtt.board import readiness
from securemqtt.settings import Settings
from support.interpreters.either import directory, raised, scratch, write

_ACCESS = {"ssid": "greenhouse", "password": "correct horse"}


class _Radio:
    """A board's `network` module and its one WLAN; it joins after `joins_after` questions."""

    STA_IF = 0
    STAT_WRONG_PASSWORD = -3
    STAT_NO_AP_FOUND = -2

    def __init__(self, joins_after: int, fails: "Exception | None" = None, status: int = 1) -> None:
        self.calls = []
        self._left = joins_after
        self._fails = fails
        self._status = status

    def WLAN(self, interface: int) -> "_Radio":
        return self

    def isconnected(self) -> bool:
        self._left -= 1
        return self._left < 0

    def active(self, on: bool) -> None:
        self.calls.append("on" if on else "off")

    def connect(self, ssid: str, password: "str | None") -> None:
        self.calls.append((ssid, password))
        if self._fails is not None:
            raise self._fails

    def status(self) -> int:
        return self._status


class _Cable:
    """The `network` of a board that has Ethernet and no radio."""

    LAN = object


class _RadioAndCable(_Radio):
    """That of one that has both, as an ESP32's firmware says, whether a cable is there or not."""

    LAN = object


class _Ntp:
    """A board's `ntptime`: `settime` raises what it is told to."""

    def __init__(self, fails: "Exception | None" = None) -> None:
        self.host = ""
        self.asked = 0
        self._fails = fails

    def settime(self) -> None:
        self.asked += 1
        if self._fails is not None:
            raise self._fails


def _run(
    radio: "_Radio | _Cable | None" = None,
    ntp: "_Ntp | None" = None,
    failures: int = 0,
    access: object = _ACCESS,
    **settings: object,
) -> "list[int]":
    """Return what `ready` yields on a board with these modules; its log is not printed."""
    for name, module in (("network", radio), ("ntptime", ntp)):
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module
    log = readiness.log
    readiness.log = lambda level, text: None
    values = dict({"path": scratch(), "clock_floor": 0, "ntp_host": None}, **settings)
    try:
        if access is not None:
            write(scratch() + "/wifi.json", json.dumps(access))
        pauses = list(readiness.prepare_board(Settings(values), failures))
        readiness.check_clock(Settings(values))
        return pauses
    finally:
        readiness.log = log
        for name in ("network", "ntptime"):
            sys.modules.pop(name, None)


def _wrong_clock() -> int:
    """Return a time that this machine's clock has not reached."""
    return int(time.time()) + 100000


def test_a_computer_without_a_radio_is_ready_at_once() -> None:
    assert _run() == []


def test_wi_fi_that_is_up_is_left_alone() -> None:
    radio = _Radio(0)
    assert _run(radio, access=None) == []
    assert radio.calls == []


def test_a_board_without_wi_fi_is_ready_at_once() -> None:
    assert _run(_Cable(), access=None) == []
    assert _run(_Cable(), failures=4) == []


def test_wi_fi_beside_a_cable_is_left_alone_unless_the_bundle_says_how_to_join() -> None:
    radio = _RadioAndCable(1 << 30)
    for failures in (0, 4):
        assert _run(radio, failures=failures, access=None, path=directory("cable")) == []
    assert radio.calls == []
    radio = _RadioAndCable(4)
    assert len(_run(radio)) == 3
    assert radio.calls == ["on", ("greenhouse", "correct horse")]


def test_wi_fi_that_is_down_is_joined_step_by_step() -> None:
    radio = _Radio(4)
    pauses = _run(radio)
    assert len(pauses) == 3
    assert all(0 < pause <= 1000 for pause in pauses)
    assert radio.calls == ["on", ("greenhouse", "correct horse")]


def test_a_network_without_a_password_is_joined_too() -> None:
    radio = _Radio(2)
    _run(radio, access={"ssid": "guests"})
    assert radio.calls[-1][0] == "guests"


def test_wi_fi_that_does_not_come_is_given_up() -> None:
    clock = [0]

    def now_ms() -> int:
        clock[0] += 100
        return clock[0]

    original, readiness.now_ms = readiness.now_ms, now_ms
    try:
        error = raised("WiFiNotConnected", _run, _Radio(1 << 30))
    finally:
        readiness.now_ms = original
    assert "greenhouse" in error.what
    assert error.code == 1
    assert 15000 < clock[0] < 30000


def test_a_radio_that_has_given_up_is_not_waited_for() -> None:
    for status, what, cause in (
        (
            _Radio.STAT_WRONG_PASSWORD,
            "greenhouse does not take the password",
            "capitals and blanks count",
        ),
        (_Radio.STAT_NO_AP_FOUND, "of the name greenhouse is in range", "misspelt"),
    ):
        radio = _Radio(3, status=status)  # one that joined after all would not be asked any more
        error = raised("WiFiNotConnected", _run, radio)
        assert what in error.what
        assert cause in error.cause
        assert "--wifi NAME" in error.remedy
        assert error.code == status
        assert error.transient


def test_without_a_good_wifi_json_the_error_says_so() -> None:
    for access in ([], {}, {"password": "x"}, "greenhouse", 7, {"ssid": 7}, {"ssid": ""}):
        error = raised("WiFiNotConnected", _run, _Radio(1 << 30), access=access)
        assert error.cause and error.transient, access
    raised("WiFiNotConnected", _run, _Radio(1 << 30), access=None, path=directory("without"))


def test_a_radio_that_refuses_is_an_error_of_ours() -> None:
    error = raised(
        "WiFiNotConnected", _run, _Radio(1 << 30, OSError(0x300A, "Wifi Internal State Error"))
    )
    assert "Wifi Internal State Error" in error.code
    assert "greenhouse" in error.what


def test_after_some_failures_in_a_row_the_radio_is_started_anew() -> None:
    switched = []
    for failures in range(9):
        radio = _Radio(0)
        _run(radio, failures=failures)
        switched.append("off" in radio.calls)
    assert switched == [False, False, False, False, True, False, False, False, True]


def test_a_good_clock_is_not_set() -> None:
    ntp = _Ntp()
    _run(ntp=ntp, clock_floor=1000, ntp_host="pool")
    assert ntp.asked == 0


def test_a_wrong_clock_that_cannot_be_set_is_an_error() -> None:
    for ntp in (None, _Ntp(), _Ntp(OSError(110, "timed out")), _Ntp(ValueError("short answer"))):
        error = raised(
            "ClockWrong", _run, None, ntp, clock_floor=_wrong_clock(), ntp_host="pool.example"
        )
        assert f"{time.gmtime()[0]:04d}" in error.what
        if ntp is not None:
            assert (ntp.host, ntp.asked) == ("pool.example", 1)
