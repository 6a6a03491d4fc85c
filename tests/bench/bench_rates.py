"""MicroPython on both word sizes: messages per second against umqtt.simple and against one bare
socket. QoS 1, 64 bytes, mutual TLS, loopback.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from figures import Figure
from setting import Setting

# Many short rounds: what else this machine does changes from second to second.
_ROUNDS = 9
_MESSAGES = 15_000
# 44 ms each (a record per small write, and Nagle's algorithm), whatever else the machine does: a
# few are enough.
_ROUNDS_UMQTT = 3
_MESSAGES_UMQTT = 100


def measure(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures; a round alternates word sizes and sides, and the median of the rounds'
    ratios counts.
    """
    boards = {board.bits: (board, setting.new_board()) for board in setting.micropythons}
    umqtt: dict[int, list[float]] = {bits: [] for bits in boards}
    bare: dict[int, list[float]] = {bits: [] for bits in boards}
    ours: dict[int, list[float]] = {bits: [] for bits in boards}
    for n in range(rounds):
        for bits, (board, bundle) in boards.items():
            if n < _ROUNDS_UMQTT:
                umqtt[bits].append(board.figure("rate_umqtt.py", bundle, _MESSAGES_UMQTT))
            bare[bits].append(board.figure("rate_bare.py", bundle, _MESSAGES))
            ours[bits].append(board.figure("rate_securemqtt_board.py", bundle, _MESSAGES))
    yield Figure("umqtt.simple, messages per second", umqtt)
    yield Figure("bare socket, messages per second", bare)
    yield Figure("securemqtt, messages per second", ours)
    slow = {bits: statistics.median(rates) for bits, rates in umqtt.items()}
    yield Figure(
        "against umqtt.simple",
        {bits: [rate / slow[bits] for rate in rates] for bits, rates in ours.items()},
    )
    yield Figure(
        "against the bare socket",
        {
            bits: [mine / other for mine, other in zip(rates, bare[bits], strict=True)]
            for bits, rates in ours.items()
        },
    )
