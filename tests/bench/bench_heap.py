"""Heap of MicroPython on both word sizes: what the library takes, and the smallest that works.

Every run is a device of its own: for one that the broker knows, messages may wait, and the first
that comes in loads what receives.
"""

from __future__ import annotations

from collections.abc import Iterator

from figures import Figure
from interpreters import MicroPython
from setting import Setting

_ROUNDS = 3
# figure: arguments of programs/heap.py, and whether the library is in ROMFS
_TAKEN = {
    "heap, connected and one message sent, kB": (("sent",), False),
    "heap, once something was received, kB": (("received",), False),
    "heap with the durable outbox, kB": (("durable",), False),
    "heap in ROMFS, connected and one message sent, kB": (("sent",), True),
    "heap in ROMFS, once something was received, kB": (("received",), True),
    "heap in ROMFS with the durable outbox, kB": (("durable",), True),
}
_SMALLEST = {
    "smallest heap for messages of 1 kB, kB": (),
    "smallest heap with the durable outbox, kB": ("durable",),
}
_LEAST_KB, _MOST_KB = 16, 256
_NEAR_KB = 2


def measure(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures, each once it is measured."""
    yield from taken(setting, rounds)
    for name, arguments in _SMALLEST.items():
        values: dict[int, list[float]] = {board.bits: [] for board in setting.micropythons}
        for _ in range(rounds):
            for board in setting.micropythons:
                near = int(values[board.bits][-1]) if values[board.bits] else None
                values[board.bits].append(smallest_heap(setting, board, arguments, near))
        yield Figure(name, values)


def taken(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield what the library takes beyond umqtt.simple and TLS; a round alternates the word sizes
    and the forms.

    The buffers of TLS are not in this heap: MicroPython for Linux has them outside, as an ESP32
    has. On a Pico W they are in it, about 30 kB, with any library.
    """
    base: dict[int, list[float]] = {board.bits: [] for board in setting.micropythons}
    values: dict[str, dict[int, list[float]]] = {
        name: {bits: [] for bits in base} for name in _TAKEN
    }
    for _ in range(rounds):
        for board in setting.micropythons:
            bare = board.figure("heap_umqtt.py", setting.new_board()) / 1000
            base[board.bits].append(bare)
            for name, (arguments, rom) in _TAKEN.items():
                heap = board.figure("heap.py", setting.new_board(), *arguments, rom=rom) / 1000
                values[name][board.bits].append(heap - bare)
    yield Figure("heap of umqtt.simple's client and TLS themselves, kB", base)
    for name in _TAKEN:
        yield Figure(name, values[name])


def smallest_heap(
    setting: Setting, board: MicroPython, arguments: tuple[str, ...], near: int | None
) -> int:
    """Find by bisection the smallest heap, in kB, with which messages of 1 kB go out and come back;
    `near`, where an earlier round found it, saves some runs.
    """

    def works(heap_kb: int) -> bool:
        return board.works("smallest_heap.py", setting.new_board(), *arguments, heap_kb=heap_kb)

    low, high = _LEAST_KB, _MOST_KB
    if near is not None:
        if works(near + _NEAR_KB):
            high = near + _NEAR_KB
        else:
            low = near + _NEAR_KB
        if low < near - _NEAR_KB:
            if works(near - _NEAR_KB):
                high = near - _NEAR_KB
            else:
                low = near - _NEAR_KB
    while high - low > 1:
        middle = (low + high) // 2
        if works(middle):
            high = middle
        else:
            low = middle
    return high
