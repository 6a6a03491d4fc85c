"""The asyncio face: messages per second against aiomqtt and gmqtt, what it takes of a board's heap
beyond the other face, and for how long it holds up another task there.

Same run, same broker, loopback, mutual TLS, QoS 1, 64 bytes; each side in a process of its own, in
turn. securemqtt has its default window, gmqtt none; of aiomqtt the number of tasks counts that
suits it best.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from figures import Figure
from setting import Setting

_ROUNDS = 5
_MESSAGES = 10_000
_WINDOW = 20
_TASKS = (20, 100, 1000)
_BOARD_ROUNDS = 5


def measure(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures; ratios are those of each round's own measurements."""
    bundle = setting.bundle("bench-asyncio", der=False)
    theirs = setting.bundle("bench-peer", der=False)
    ours: list[float] = []
    gmqtt: list[float] = []
    aiomqtt: dict[int, list[float]] = {tasks: [] for tasks in _TASKS}
    for _ in range(rounds):
        ours.append(setting.cpython("rate_asyncio.py", bundle, _MESSAGES, _WINDOW))
        gmqtt.append(setting.cpython("rate_gmqtt.py", theirs, _MESSAGES))
        for tasks, rates in aiomqtt.items():
            rates.append(setting.cpython("rate_aiomqtt.py", theirs, _MESSAGES, tasks))
    yield Figure(f"securemqtt.aio, window {_WINDOW}, messages per second", {64: ours})
    yield Figure("gmqtt, messages per second", {64: gmqtt})
    for tasks, rates in aiomqtt.items():
        yield Figure(f"aiomqtt, {tasks} tasks, messages per second", {64: rates})
    best = max(aiomqtt, key=lambda tasks: statistics.median(aiomqtt[tasks]))
    yield Figure(
        "against aiomqtt with its best number of tasks",
        {64: [mine / one for mine, one in zip(ours, aiomqtt[best], strict=True)]},
        f"which is {best}",
    )
    yield Figure("against gmqtt", {64: [mine / one for mine, one in zip(ours, gmqtt, strict=True)]})
    yield from _on_a_board(setting)


def _on_a_board(setting: Setting) -> Iterator[Figure]:
    bits = [board.bits for board in setting.micropythons]
    beyond: dict[int, list[float]] = {size: [] for size in bits}
    connecting: dict[int, list[float]] = {size: [] for size in bits}
    connected: dict[int, list[float]] = {size: [] for size in bits}
    for _ in range(_BOARD_ROUNDS):
        for board in setting.micropythons:
            blocking = board.figure("heap.py", setting.new_board(), "received")
            heap = board.figure("heap_asyncio.py", setting.new_board())
            beyond[board.bits].append((heap - blocking) / 1000)
            longest = board.figures("blocked_asyncio.py", setting.new_board())
            alone = board.figure("handshake_step.py", setting.new_board())
            connecting[board.bits].append(longest[0] / alone)
            connected[board.bits].append(longest[1])
    yield Figure("heap beyond that of the other face, kB", beyond)
    yield Figure("another task held up, connecting, in mbedTLS's longest steps", connecting)
    yield Figure("another task held up, connected, ms", connected)
