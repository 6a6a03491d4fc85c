"""The durable outbox: CPython against plain paho sending from memory, a backlog drained, and the
wear of a board's flash. What it takes of a board's heap is in bench_heap.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from figures import Figure
from setting import Setting

from faults.flash_rig import FlashDevice, directory_in_memory

_ROUNDS = 5
_MESSAGES = 10_000
_WINDOW = 20
# Messages for the wear of a flash: as many as a board's journal has room for, so many per interval.
_WEARING = 400
_INTERVAL = 10


def measure(setting: Setting, rounds: int = _ROUNDS) -> Iterator[Figure]:
    """Yield the figures; a round alternates the sides."""
    bundle = setting.bundle("durable-pi", der=False)
    scratch = setting.directory / "durable"
    run = (bundle, _MESSAGES, _WINDOW)
    steady: list[float] = []
    drained: list[float] = []
    for _ in range(rounds):
        paho = setting.cpython("rate_paho.py", *run)
        steady.append(setting.cpython("rate_securemqtt.py", *run, scratch) / paho)
        setting.cpython("backlog.py", "fill", *run, scratch)
        drained.append(setting.cpython("backlog.py", "drain", *run, scratch) / paho)
        shutil.rmtree(scratch)
    yield Figure("durable, interval, against plain paho", {64: steady})
    yield Figure("backlog of 10,000 drained, against plain paho", {64: drained})
    yield from _wear(setting)


def _wear(setting: Setting) -> Iterator[Figure]:
    """Yield erases and bytes programmed for each message of 64 bytes, by
    tests/faults/test_journal_wear.py's rig.
    """
    for fsync in ("each", "interval"):
        for away in (False, True):
            with (
                directory_in_memory() as scratch,
                FlashDevice(
                    setting.authority, scratch, outbox_fsync=fsync, outbox_interval_s=3600
                ) as device,
            ):
                device.wear(0, away, _INTERVAL)  # the file system and the directory are made
                stats = device.wear(_WEARING, away, _INTERVAL)
            name = f"{fsync}, broker {'away' if away else 'there'}"
            yield Figure(f"flash erases per message, {name}", {64: [stats.erases / _WEARING]})
            yield Figure(
                f"flash bytes per message, {name}", {64: [stats.programmed_bytes / _WEARING]}
            )
