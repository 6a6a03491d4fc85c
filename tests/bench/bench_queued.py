"""A subscriber whose handler takes 1 ms, with 10,000 messages of QoS 1 that wait for it at the
broker: all are handled, in order, none twice, or it is an error; against plain paho with the same
handler.
"""

from __future__ import annotations

from collections.abc import Iterator

from figures import Figure
from setting import OPERATOR, Setting

_ROUNDS = 1
_MESSAGES = 10_000


def measure(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures; a round alternates the sides, each with a device of its own."""
    operator = setting.bundle(OPERATOR, der=False)
    ratios: dict[int, list[float]] = {64: []}
    paho_kb: list[float] = []
    ours_kb: list[float] = []
    boards: dict[str, dict[int, list[float]]] = {name: {} for name in ("rate", "heap", "connects")}
    for _ in range(rounds):
        theirs, ours = setting.new_pi(), setting.new_pi()
        for program, bundle in (("queued_paho.py", theirs), ("queued_device.py", ours)):
            setting.cpython(program, "subscribe", bundle, 1)
            setting.cpython("queued_paho.py", "fill", operator, _MESSAGES, bundle.name[7:])
        paho_rate, taken_kb, _ = setting.figures("queued_paho.py", "drain", theirs, _MESSAGES)
        paho_kb.append(taken_kb)
        rate, taken_kb, _ = setting.figures("queued_device.py", "drain", ours, _MESSAGES)
        ours_kb.append(taken_kb)
        ratios[64].append(rate / paho_rate)
        for board in setting.micropythons:
            bundle = setting.new_board()
            board.figures("queued_device.py", "subscribe", bundle, 1)
            setting.cpython("queued_paho.py", "fill", operator, _MESSAGES, bundle.name[7:])
            shown = board.figures("queued_device.py", "drain", bundle, _MESSAGES)
            for name, value in zip(boards, shown, strict=True):
                boards[name].setdefault(board.bits, []).append(value)
    yield Figure("10,000 queued, handler of 1 ms, against plain paho", ratios)
    yield Figure("10,000 queued, plain paho, kB of memory beyond its start", {64: paho_kb})
    yield Figure("10,000 queued, CPython, kB of memory beyond its start", {64: ours_kb})
    yield Figure("10,000 queued, MicroPython, messages per second", boards["rate"])
    yield Figure("10,000 queued, MicroPython, kB of heap at most", boards["heap"])
    yield Figure("10,000 queued, MicroPython, connections", boards["connects"])
