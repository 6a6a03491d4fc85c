"""A board's flash under a durable outbox: the simulated board's chip, and a device in MicroPython
that lives on it, again and again.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard.flash import FlashChip, FlashStats
from support.identities.bundles import write_bundle
from support.interpreters.micropython import ROOT, board_environment, micropython_command
from support.speed import seconds

BLOCK_BYTES = 4096
PROGRAM = Path(__file__).with_name("flash_device.py")
WEAR = Path(__file__).with_name("flash_wear.py")
ROM = ROOT / "tools" / "securemqtt_tools" / "simboard" / "rom"
LIFE_S = seconds(60)


class FlashDevice:
    """flash_device.py and its chip, and what it said over all its lives."""

    def __init__(
        self,
        authority: Authority,
        scratch: Path,
        program_bytes: int = 256,
        blocks: int = 64,
        **options: object,
    ) -> None:
        self.bundle = write_bundle(scratch / "bundle", authority, "flash", port=1, board=True)
        self.chip = FlashChip(
            scratch / "image", scratch / "counters", blocks * BLOCK_BYTES, BLOCK_BYTES
        )
        self.published: list[int] = []
        self.delivered: list[int] = []
        self.in_storage = 0
        self.errors: list[str] = []
        self.damaged = 0
        self.stats: dict[str, int] = {}
        self._program_bytes = program_bytes
        self._options = {"outbox_messages": 20, "outbox_journal_bytes": 65536, **options}
        # Compiled, for what is rarely needed is read from the flash again and again.
        self._environment = board_environment(scratch, ROM, ROOT / "tests")

    def live(self, seed: int, count: int) -> int:
        """Publish up to `count` more numbers and deliver all; return the exit status."""
        first = self.published[-1] + 1 if self.published else 0
        done = self._run(PROGRAM, seed, first, first + count)
        for line in done.stdout.splitlines():
            word, _, rest = line.partition(" ")
            if word == "P":
                self.published.append(int(rest))
            elif word == "D":
                self.delivered.append(int(rest))
            elif word == "S":
                self.in_storage = int(rest)
            elif word == "E":
                self.errors.append(rest)
            else:
                assert word == "done", line
                self.stats = json.loads(rest)
                self.damaged += self.stats["journal_damaged"]
        return done.returncode

    def wear(self, count: int, away: bool, interval: int) -> FlashStats:
        """Publish `count` messages of 64 bytes, `interval` of them per interval; return what the
        flash has gone through for that.
        """
        before = self.flash_stats()
        self._run(WEAR, count, "away" if away else "there", interval).check_returncode()
        after = self.flash_stats()
        return FlashStats(
            after.operations - before.operations,
            after.erases - before.erases,
            after.programmed_bytes - before.programmed_bytes,
        )

    def _run(self, program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a program on the chip with the client's options, and arguments of its own."""
        common = (self.chip.image, self.chip.counters, self._program_bytes, self.bundle)
        texts = [*map(str, common), json.dumps(self._options), *map(str, arguments)]
        return subprocess.run(
            [*micropython_command("-X", "heapsize=384k"), str(program), *texts],
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            timeout=LIFE_S,
            check=False,
        )

    def __enter__(self) -> FlashDevice:
        return self

    def __exit__(self, *exc: object) -> None:
        self.chip.close()

    def flash_stats(self) -> FlashStats:
        """Return what the flash has gone through."""
        return self.chip.stats()


@contextmanager
def directory_in_memory() -> Iterator[Path]:
    """Return a directory in memory, where there is one: a chip's every access is a few writes,
    which a busy disk would slow down.
    """
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=shared if os.access(shared, os.W_OK) else None
    ) as directory:
        yield Path(directory)
