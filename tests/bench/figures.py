"""A measured figure, what it must not fall short of, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Values = Mapping[int, Sequence[float]]  # word size in bits, what each round gave


@dataclass(frozen=True)
class Bound:
    """A floor or a ceiling of the figure on one word size."""

    at_least: float | None = None
    at_most: float | None = None
    bits: int = 64

    def __str__(self) -> str:
        shown = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return shown if self.bits == 64 else f"{shown} on {self.bits} bits"

    def holds(self, value: float) -> bool:
        """Return True if a value is within it."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )


# What issues 6, 9 and 10 ask for; the rest is reported.
BOUNDS = {
    "heap, connected and one message sent, kB": Bound(at_most=24, bits=32),
    "heap, once something was received, kB": Bound(at_most=30, bits=32),
    "heap with the durable outbox, kB": Bound(at_most=30, bits=32),
    "smallest heap for messages of 1 kB, kB": Bound(at_most=48, bits=32),
    "smallest heap with the durable outbox, kB": Bound(at_most=56, bits=32),
    "against umqtt.simple": Bound(at_least=500),
    "against the bare socket": Bound(at_least=0.4),
    "against plain paho with its best window": Bound(at_least=1.2),
    "durable, interval, against plain paho": Bound(at_least=0.6),
    "backlog of 10,000 drained, against plain paho": Bound(at_least=0.8),
    "MicroPython at 50 ms, against window ÷ round trip": Bound(at_least=0.9),
    "CPython at 50 ms, against window ÷ round trip": Bound(at_least=0.9),
    "MicroPython, first message, round trips beyond the handshake": Bound(at_most=3),
    "CPython, first message, round trips beyond the handshake": Bound(at_most=3),
    "against aiomqtt with its best number of tasks": Bound(at_least=2),
    "heap beyond that of the other face, kB": Bound(at_most=10, bits=32),
    "another task held up, connecting, in mbedTLS's longest steps": Bound(at_most=1.5),
    "another task held up, connected, ms": Bound(at_most=20),
    "until one of 1000 is out, 10000 rules, s": Bound(at_most=1),
    "others whose connection broke": Bound(at_most=0),
    # Its own program, to see whether it is sound.
    "provisioning a second board, modules compiled": Bound(at_most=1),
    "provisioning a second board, against mpremote cp": Bound(at_most=1.2),
}


@dataclass(frozen=True)
class Figure:
    """What the rounds gave, per word size; their median is the figure."""

    name: str
    values: Values
    remark: str = ""

    @property
    def bound(self) -> Bound | None:
        """What it is held to."""
        return BOUNDS.get(self.name)

    @property
    def falls_short(self) -> bool:
        """True if it is measured and not within its bound."""
        bound = self.bound
        value = self.value(bound.bits) if bound else None
        return bound is not None and value is not None and not bound.holds(value)

    @property
    def verdict(self) -> str:
        """A word beside the bound."""
        bound = self.bound
        if bound is None:
            return ""
        if self.value(bound.bits) is None:
            return "not measured"
        return "SHORT" if self.falls_short else "held"

    def value(self, bits: int) -> float | None:
        """Return the median on this word size; None where it was not measured."""
        return statistics.median(self.values[bits]) if self.values.get(bits) else None

    def shown(self, bits: int) -> str:
        """Return the median in a table's words."""
        value = self.value(bits)
        return "–" if value is None else f"{value:,.2f}"

    def account(self) -> str:
        """Return one line with every round."""
        rounds = [
            f"{bits} bits {self.shown(bits)} (of {', '.join(f'{value:,.2f}' for value in values)})"
            for bits, values in self.values.items()
        ]
        return f"{self.name}: {'; '.join(rounds)}{self.remark and '; '}{self.remark}"
