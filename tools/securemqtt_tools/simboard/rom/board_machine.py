"""The module `machine` of the board: what a program for a Wi-Fi board asks of its hardware."""

import os
import time

import wire
from machine import *

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

_settings = {}


def set_up(settings):
    """Take over what the simulator knows of the board: `unique_id`, `reset_cause`, `frequency`."""
    _settings.update(settings)


def unique_id():
    return bytes.fromhex(_settings["unique_id"])


def reset_cause():
    return _settings["reset_cause"]


def freq(hertz=None):
    if hertz is not None:
        _settings["frequency"] = hertz
        return None
    return _settings["frequency"]


def reset():
    wire.stop("reset")


def deepsleep(milliseconds=None):
    wire.stop("deepsleep", milliseconds)


def lightsleep(milliseconds=0):
    time.sleep_ms(milliseconds)


class RTC:
    """The board's clock; `datetime` with a tuple sets it, for TLS too."""

    def datetime(self, moment=None):
        """Return or set (year, month, day, weekday, hours, minutes, seconds, subseconds), in
        UTC.
        """
        if moment is None:
            year, month, day, hours, minutes, seconds, weekday, _, _ = time.gmtime()
            return (year, month, day, weekday, hours, minutes, seconds, 0)
        year, month, day, _, hours, minutes, seconds, _ = moment
        # What the interpreter reads is shifted by libfaketime, which looks at this variable each
        # time.
        offset = wire.ask(
            "set_clock", int(time.mktime((year, month, day, hours, minutes, seconds, 0, 0, 0)))
        )
        if offset is not None:
            os.putenv("FAKETIME", offset)
        return None

    def init(self, moment):
        year, month, day, hours, minutes, seconds = (tuple(moment) + (0,) * 6)[:6]
        self.datetime((year, month, day, 0, hours, minutes, seconds, 0))


class WDT:
    """The watchdog: resets the board unless it is fed in time; cannot be stopped."""

    def __init__(self, id=0, timeout=5000):
        wire.ask("watchdog", timeout)

    def feed(self):
        wire.tell("feed")


class Pin:
    """A pin that keeps what was written to it; all objects of one number share it."""

    IN = 0
    OUT = 1
    OPEN_DRAIN = 2
    PULL_UP = 1
    PULL_DOWN = 2
    IRQ_RISING = 8
    IRQ_FALLING = 4

    _levels = {}

    def __init__(self, id, mode=-1, pull=-1, *, value=None):
        self._id = id
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            return self._levels.get(self._id, 0)
        self._levels[self._id] = 1 if level else 0
        return None

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    high = on
    low = off

    def toggle(self):
        self.value(not self.value())


class ADC:
    """An analogue input on which 0.706 V lies: 27 degrees Celsius to a program that reads a Pico's
    own sensor.
    """

    CORE_TEMP = 4

    def __init__(self, channel, **_):
        self._channel = channel

    def read_u16(self):
        return 14021

    def read_uv(self):
        return 706000
