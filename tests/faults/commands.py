"""Commands to a device: an operator sends them all the while, numbered, and each must be handled,
in order, and none twice.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paho.mqtt.client as paho

from support.network.net import wait_until
from support.speed import seconds

if TYPE_CHECKING:
    from faults.rig import Observer

# What a broker has on its way to a device at most (max_inflight_messages): what it may send again.
WINDOW = 20
_PATIENCE_S = seconds(20)


@dataclass(frozen=True)
class Orders:
    """What became of the commands to a device."""

    sent: int
    handled: int
    lost: int
    """Not handled, where the broker has no excuse."""
    twice: int
    """Handled again in one session that both sides have kept."""
    excused: int
    """Lost or handled again, since the broker was killed or another one took its place."""
    in_order: bool

    def complaints(self) -> list[str]:
        """Say what is not as it must be."""
        well = not (self.lost or self.twice) and self.in_order
        return [] if well else [f"commands: {self}"]


class Commander:
    """Sends commands through the observer's client, one each `pause_s`, within the block.

    They have QoS 1. While the observer is not ready none is sent: see `settle`.
    """

    def __init__(self, observer: Observer, device: str, pause_s: float) -> None:
        self._observer = observer
        self._prefix = f"devices/{device}/command/"
        self._pause_s = pause_s
        self._sent: list[paho.MQTTMessageInfo] = []
        self._lock = threading.Lock()
        self._may_be_twice: set[int] = set()
        self._may_be_lost: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commander", daemon=True)

    def __enter__(self) -> Commander:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Send no more."""
        self._ended.set()
        self._thread.join()

    @property
    def sent(self) -> int:
        """How many were sent."""
        return len(self._sent)

    def burst(self, zeros: int, ones: int, ones_bytes: int) -> None:
        """Send so many small messages with QoS 0, and behind them so many commands of this size."""
        with self._lock:
            for _ in range(zeros):
                self._observer.publish(self._prefix + "burst", "." * 10, 0)
            for _ in range(ones):
                self._send(ones_bytes)

    def settle(self) -> None:
        """Wait until the broker has taken over all commands, so that none is sent to it again.

        The observer must not be ready, so that no more are sent.
        """
        with self._lock:
            wait_until(
                lambda: all(one.is_published() for one in self._sent),
                _PATIENCE_S,
                "the broker's acknowledgements of commands",
            )

    def unsettled(self, handled: Sequence[int]) -> int:
        """Return the first command that the broker may still have on its way."""
        return max(0, max(handled, default=-1) + 1 - WINDOW)

    def excuse(self, first: int, lost: bool) -> None:
        """Allow what was on its way since `first` to be handled twice, and to be lost."""
        self._may_be_twice |= set(range(first, self.sent))
        if lost:
            self._may_be_lost |= set(range(first, self.sent))

    def missing(self, handled: Sequence[int]) -> set[int]:
        """Return those that are still to be handled."""
        return set(range(self.sent)) - set(handled) - self._may_be_lost

    def tally(self, handled: Sequence[int]) -> Orders:
        """Compare what was sent with what the device has handled."""
        times = Counter(handled)
        again = [number for number, count in times.items() if count > 1]
        firsts = list(dict.fromkeys(handled))
        lost = set(range(self.sent)) - set(times)
        return Orders(
            sent=self.sent,
            handled=len(times),
            lost=len(lost - self._may_be_lost),
            twice=len(set(again) - self._may_be_twice),
            excused=len(lost & self._may_be_lost) + len(set(again) & self._may_be_twice),
            in_order=firsts == sorted(firsts),
        )

    def _run(self) -> None:
        while not self._ended.wait(self._pause_s):
            with self._lock:
                if self._observer.ready.is_set():
                    self._send(0)

    def _send(self, size: int) -> None:
        text = str(self.sent).ljust(size)
        self._sent.append(self._observer.publish(self._prefix + "number", text, 1))
