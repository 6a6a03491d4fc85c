"""A durable outbox and the power: cut at random writes to the flash, half-written blocks included,
two hundred times, and nothing is lost.

The flash is the simulated board's chip with littlefs. Each cut ends the interpreter, and the next
one starts on the image as it was at that write. The seed is printed; SECUREMQTT_SEED repeats it.
"""

from __future__ import annotations

import os
import random

import pytest

from faults.flash_rig import FlashDevice, directory_in_memory
from securemqtt_tools.pki import Authority

# What one life may do before its power is cut, in erases and programs.
OPERATIONS = 100
POWER_GONE = -9


@pytest.mark.parametrize(
    ("fsync", "program_bytes", "cuts"),
    [
        ("each", 256, 30),
        ("interval", 256, 25),
        pytest.param("each", 256, 200, marks=pytest.mark.long),
        pytest.param("each", 32, 200, marks=pytest.mark.long),
        pytest.param("interval", 32, 200, marks=pytest.mark.long),
    ],
)
def test_a_board_whose_power_is_cut_again_and_again_loses_nothing(
    authority: Authority, fsync: str, program_bytes: int, cuts: int
) -> None:
    seed = int(os.environ.get("SECUREMQTT_SEED", random.randrange(1 << 24)))
    print(f"SECUREMQTT_SEED={seed}")
    moments = random.Random(seed)
    options = {"outbox_fsync": fsync, "outbox_interval_s": 0.01}
    with (
        directory_in_memory() as scratch,
        FlashDevice(authority, scratch, program_bytes, **options) as device,
    ):
        must_arrive: set[int] = set()
        done = 0
        while done < cuts:
            device.chip.cut_after(moments.randrange(OPERATIONS), moments.random() < 0.5)
            before = len(device.published)
            if device.live(moments.randrange(1 << 30), 100) == POWER_GONE:
                done += 1
            new = device.published[before:]
            # With an interval, what came after the last sync may be lost with the power.
            must_arrive.update(
                number for number in new if fsync == "each" or number < device.in_storage
            )
        device.chip.cancel_cut()
        assert device.live(moments.randrange(1 << 30), 0) == 0
        stats = device.flash_stats()
    again = len(device.delivered) - len(set(device.delivered))
    print(
        f"{fsync}, {program_bytes} bytes: {cuts} cuts, {len(must_arrive)} messages, {again} "
        f"twice, {stats}"
    )
    assert sorted(must_arrive - set(device.delivered)) == []
    assert list(dict.fromkeys(device.delivered)) == sorted(set(device.delivered)), "not in order"
    assert set(device.errors) <= {"OutboxFull"}
    assert device.damaged == 0
