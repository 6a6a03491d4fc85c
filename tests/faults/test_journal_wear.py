"""What the durable outbox costs a board's flash: blocks erased for each message, on the simulated
board's chip with littlefs.
"""

from __future__ import annotations

import pytest

from faults.flash_rig import FlashDevice, directory_in_memory
from securemqtt_tools.pki import Authority

# So many fit into a journal of 64 KiB.
MESSAGES = 400
# With an interval of a minute and a message every six seconds.
INTERVAL = 10


@pytest.mark.parametrize(
    ("fsync", "away", "most_erases"),
    [("each", False, 0.35), ("each", True, 1.1), ("interval", False, 0), ("interval", True, 0.2)],
)
def test_a_message_costs_no_more_erases_than_the_documentation_says(
    authority: Authority, fsync: str, away: bool, most_erases: float
) -> None:
    with (
        directory_in_memory() as scratch,
        FlashDevice(authority, scratch, outbox_fsync=fsync, outbox_interval_s=3600) as device,
    ):
        device.wear(0, away, INTERVAL)  # the file system and the directory are made
        stats = device.wear(MESSAGES, away, INTERVAL)
    erases = stats.erases / MESSAGES
    print(
        f"{fsync}, {'away' if away else 'there'}: {erases:.3f} erases and "
        f"{stats.programmed_bytes / MESSAGES:.0f} bytes for each message"
    )
    assert erases <= most_erases
