"""A network with a round trip of 50 ms: how much of the window's bound is reached, and how long the
first message takes after a return.

Both interpreters, through a proxy that delays each direction by 25 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from figures import Figure
from setting import Setting

from support.network.proxy import Proxy

_ROUND_TRIP_S = 0.05
_WINDOW = 20
_MESSAGES = 2_000
_ROUNDS = 5
_ROUNDS_STEADY = 3  # five seconds each

Run = Callable[..., float]  # runs a program of programs/ with a bundle; returns its figure


def measure(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures."""
    with Proxy(setting.broker.port) as proxy:
        proxy.up.delay_s = proxy.down.delay_s = _ROUND_TRIP_S / 2
        bundle = setting.bundle("far-board", der=True, port=proxy.port)
        runs: dict[int, Run] = {board.bits: board.figure for board in setting.micropythons}
        yield from _figures("MicroPython", runs, bundle, "handshake_board.py", rounds)
        bundle = setting.bundle("far-pi", der=False, port=proxy.port)
        yield from _figures("CPython", {64: setting.cpython}, bundle, "handshake_pi.py", rounds)


def _figures(
    name: str, runs: dict[int, Run], bundle: Path, handshake: str, rounds: int
) -> Iterator[Figure]:
    share: dict[int, list[float]] = {bits: [] for bits in runs}
    beyond: dict[int, list[float]] = {bits: [] for bits in runs}
    for n in range(rounds):
        for bits, run in runs.items():
            if n < _ROUNDS_STEADY:
                rate = run("network_steady.py", bundle, _MESSAGES)
                share[bits].append(rate * _ROUND_TRIP_S / _WINDOW)
            extra_s = run("network_first.py", bundle) - run(handshake, bundle)
            beyond[bits].append(extra_s / _ROUND_TRIP_S)
    yield Figure(f"{name} at 50 ms, against window ÷ round trip", share)
    yield Figure(f"{name}, first message, round trips beyond the handshake", beyond)
