"""What the checks work on: the parts of the system as they come into being, in one directory, and
their end.
"""

from __future__ import annotations

import functools
import logging
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.cli import default_home
from securemqtt_tools.demo.background import Background
from securemqtt_tools.demo.devices import Device
from securemqtt_tools.demo.failure import Failed, wait_for
from securemqtt_tools.demo.machine_in_the_middle import MachineInTheMiddle
from securemqtt_tools.demo.relay import Line, Relay
from securemqtt_tools.demo.subscriber import Subscriber
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.clock import system_clock
from securemqtt_tools.pki.files import make_directory
from securemqtt_tools.resources import checkout_cache

T = TypeVar("T")

DEVICE_ID = "greenhouse-1"
NEIGHBOUR_ID = "garden-2"  # a device in its own right, which oversteps it
EXPIRED_ID, LOST_ID = "shed-0", "lost-3"
INTRUDERS = (NEIGHBOUR_ID, EXPIRED_ID, LOST_ID)
# The broker's names: the board calls it by the first, the programs on this machine by the second.
BROKER_NAMES = ("mqtt.local", "localhost", "127.0.0.1")
CA_NAME = "securemqtt demo"
DEVICE_LINE, SUBSCRIBER_LINE = "device", "subscriber"  # names of the lines through the relay
_LOGGERS = ("securemqtt", "amqtt", "transitions", "asyncio")


def past() -> datetime:
    """Return the time at which the authority is said to have been made, so that something of its
    can have run out by now.
    """
    return system_clock() - timedelta(days=60)


class Part(Generic[T]):
    """An attribute that a check sets once its part is there.

    To read it before is Failed: the check did not get so far.
    """

    def __init__(self, title: str) -> None:
        self._title = title

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, environment: object, owner: type) -> T:
        try:
            value: T = getattr(environment, self._name)
        except AttributeError:
            raise Failed(f"not tried: {self._title} is missing") from None
        return value

    def __set__(self, environment: object, value: T) -> None:
        setattr(environment, self._name, value)


class Environment:
    """The system under demonstration, from `open` to `close`."""

    authority = Part[Authority]("the certificate authority")
    broker = Part[BrokerProcess]("the broker")
    device = Part[Device]("the device")
    device_line = Part[Line]("the device's line through the relay")
    subscriber = Part[Subscriber]("the Pi's program")
    subscriber_line = Part[Line]("the Pi's line through the relay")
    machine_in_the_middle = Part[MachineInTheMiddle]("the machine in the middle")

    def __init__(self, directory: Path, engine: str, doing: Callable[[str], None]) -> None:
        self.directory = directory
        self.engine = engine
        self.doing = doing  # shows what is being done at the moment
        # of the authority's key: in this process's memory only
        self.passphrase = secrets.token_urlsafe(24).encode()
        self.cache = checkout_cache() or default_home() / "cache"
        self.background = Background()
        self.relay = Relay(self.background)
        self.opened_at_s = time.monotonic()
        self._stack = ExitStack()

    def open(self) -> None:
        """Make the directory ready. Raise FatalError."""
        temporary = self.directory / "tmp"
        make_directory(temporary)
        self._stack.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
        tempfile.tempdir = str(temporary)  # whatever a part writes is below our directory
        self._log_to(self.directory / "demo.log")
        self._stack.enter_context(self.background)

    def close(self) -> None:
        """End every part, the last one first. It may be called again."""
        self._stack.close()

    @functools.cached_property
    def foreign(self) -> Authority:
        """Another CA, of the same name as ours: whoever goes by names alone takes the one for the
        other.
        """
        return Authority.create(self.directory / "foreign", name=CA_NAME, passphrase=None)

    def enter(self, part: AbstractContextManager[T]) -> T:
        """Enter a context that ends with the environment; the last one first."""
        return self._stack.enter_context(part)

    def at_end(self, function: Callable[[], None]) -> None:
        """Have `function` called when the environment ends."""
        self._stack.callback(function)

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Wait for what the device and the Pi are to bring about.

        Failed when it does not come, or one of them has ended.
        """

        def seen() -> T:
            self.device.check()
            self.subscriber.check()
            return condition()

        return wait_for(seen, what)

    def new_readings(self, count: int) -> None:
        """Wait until so many more of the device's readings have reached the Pi.

        Failed as `until` is.
        """
        wanted = max(self.subscriber.numbers(DEVICE_ID), default=0) + count
        self.until(
            lambda: max(self.subscriber.numbers(DEVICE_ID), default=0) >= wanted,
            f"reading {wanted} at the Pi",
        )

    def account_for_readings(self) -> str:
        """Say which readings the Pi has received; Failed when one is missing or out of order.

        Second copies may come (QoS 1).
        """
        numbers = self.subscriber.numbers(DEVICE_ID)
        firsts = list(dict.fromkeys(numbers))
        if not firsts:
            raise Failed("no reading has reached the Pi")
        missing = sorted(set(range(1, max(firsts) + 1)) - set(firsts))
        if missing:
            raise Failed(
                f"of {max(firsts)} readings these are missing: {', '.join(map(str, missing))}"
            )
        if firsts != sorted(firsts):
            raise Failed("the readings are all there, but not in their order")
        copies = len(numbers) - len(firsts)
        return f"1 to {max(firsts)} in their order, {copies or 'no'} second copies"

    def _log_to(self, path: Path) -> None:
        handler = logging.FileHandler(path)
        self._stack.callback(handler.close)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._stack.callback(setattr, logger, "propagate", logger.propagate)
            self._stack.callback(logger.removeHandler, handler)
            logger.propagate = False
            logger.addHandler(handler)
