"""The board's flash chip as a file, and the counters and orders that it shares with the interpreter
(rom/flash.py).
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.cli import FatalError

_COUNTERS = struct.Struct("@4L")  # busy, operations, erases, programmed bytes: written by the board
# something is ordered: cut at operation, half of it, failing: written here
_ORDERS = struct.Struct("@4L")
_ORDERS_OFFSET = _COUNTERS.size
_ERASED = b"\xff"


@dataclass(frozen=True)
class FlashStats:
    """What the flash has gone through since the simulator started."""

    operations: int  # erases and programs together
    erases: int  # blocks erased
    programmed_bytes: int


class FlashChip:
    """An image file of a fixed size, locked while the board has it."""

    def __init__(self, image: Path, counters: Path, size_bytes: int, block_bytes: int) -> None:
        """Open or make both files.

        FatalError if one is in use or cannot be written, or the image is of another size.
        """
        self.image = image
        self.counters = counters
        self.block_bytes = block_bytes
        self._image = _open_locked(
            image, "another simulated board is running on it; choose another --image"
        )
        self._give_size(size_bytes)
        self._counters = _open_locked(
            counters, "another simulated board of this name is running; choose another --name"
        )
        os.pwrite(self._counters, bytes(_COUNTERS.size + _ORDERS.size), 0)

    def close(self) -> None:
        """Let go of the image, and remove the counters."""
        self.counters.unlink()
        os.close(self._counters)
        os.close(self._image)

    def stats(self) -> FlashStats:
        """Read the counters."""
        _, operations, erases, programmed = self._read()
        return FlashStats(operations, erases, programmed)

    @property
    def busy(self) -> bool:
        """Return True if an access is under way."""
        return bool(self._read()[0])

    def power_up(self) -> None:
        """Forget the access that was under way when the power went."""
        os.pwrite(self._counters, struct.pack("@L", 0), 0)

    def cut_after(self, operations: int, half: bool) -> None:
        """Order the power to fail when `operations` more are done; with `half`, half of the one
        after that is done too.
        """
        self._order(self.stats().operations + operations + 1, half, self._failing())

    def cancel_cut(self) -> None:
        """Take back `cut_after`."""
        self._order(0, False, self._failing())

    def fail(self, failing: bool) -> None:
        """Order the chip to refuse every erase and program with EIO, or to work again."""
        cut_at, half, _ = self._orders()
        self._order(cut_at, bool(half), failing)

    def _failing(self) -> bool:
        return bool(self._orders()[2])

    def _orders(self) -> tuple[int, int, int]:
        _, cut_at, half, failing = _ORDERS.unpack(
            os.pread(self._counters, _ORDERS.size, _ORDERS_OFFSET)
        )
        return cut_at, half, failing

    def _order(self, cut_at: int, half: bool, failing: bool) -> None:
        os.pwrite(
            self._counters,
            _ORDERS.pack(bool(cut_at or failing), cut_at, half, failing),
            _ORDERS_OFFSET,
        )

    def _read(self) -> tuple[int, int, int, int]:
        busy, operations, erases, programmed = _COUNTERS.unpack(
            os.pread(self._counters, _COUNTERS.size, 0)
        )
        return busy, operations, erases, programmed

    def _give_size(self, size_bytes: int) -> None:
        there = os.fstat(self._image).st_size
        if there == 0:
            _write_all(self._image, _ERASED * size_bytes, self.image)
        elif there != size_bytes:
            raise FatalError(
                f"{self.image}: the image has {there} bytes and the board's flash {size_bytes};"
                " choose another --image or the --profile that it was made with"
            )


def _open_locked(path: Path, in_use: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise FatalError(f"{path}: {error.strerror}; choose another --image") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FatalError(f"{path}: {in_use}") from None
    return descriptor


def _write_all(descriptor: int, data: bytes, path: Path) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise FatalError(f"{path}: {error.strerror}; choose another --image") from None
