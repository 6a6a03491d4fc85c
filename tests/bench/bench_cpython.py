"""CPython: messages per second against plain paho-mqtt with the window that suits it best.

Same run, same broker, loopback, mutual TLS, QoS 1, 64 bytes; each side in a process of its own, in
turn. securemqtt has its default window.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from figures import Figure
from setting import Setting

# Many short rounds: what else this machine does changes from second to second.
_ROUNDS = 9
_MESSAGES = 10_000
_WINDOW = 20
_PAHO_WINDOWS = {20: "20", 100: "100", 1000: "1,000", 0: "unlimited"}


def measure(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures; the ratio is that of each round's own measurements, against the window
    whose median is best.
    """
    bundle = setting.bundle("bench-ours", der=False)
    bundle_paho = setting.bundle("bench-paho", der=False)
    ours: list[float] = []
    paho: dict[int, list[float]] = {window: [] for window in _PAHO_WINDOWS}
    for _ in range(rounds):
        ours.append(setting.cpython("rate_securemqtt.py", bundle, _MESSAGES, _WINDOW))
        for window, rates in paho.items():
            rates.append(setting.cpython("rate_paho.py", bundle_paho, _MESSAGES, window))
    yield Figure(f"securemqtt, window {_WINDOW}, messages per second", {64: ours})
    for window, name in _PAHO_WINDOWS.items():
        yield Figure(f"plain paho, window {name}, messages per second", {64: paho[window]})
    best = max(paho, key=lambda window: statistics.median(paho[window]))
    yield Figure(
        "against plain paho with its best window",
        {64: [mine / theirs for mine, theirs in zip(ours, paho[best], strict=True)]},
        f"paho's best window is {_PAHO_WINDOWS[best]}",
    )
