"""The flash chip: an image file as a block device, with counters beside it that the simulator
reads.

The counters' file holds unsigned longs. The board writes the first four: busy, operations, erases,
programmed bytes. The simulator writes the last four: something of the following is ordered, the
power goes at this operation (0: never), half of it is done, flash fails.

Two things that a board's driver, being in C, has for nothing: no method that littlefs calls
allocates memory, for the garbage collector closes files while the heap is locked (hence arrays of
"L": an element of "Q" is a new object each time); and none jumps, unless something was ordered, for
MicroPython looks for a Ctrl-C at jumps, and littlefs does not survive an exception.
"""

import os
from array import array

import wire

_BUSY = 0
_OPERATIONS = 1
_ERASES = 2
_PROGRAMMED = 3
_ORDERED = 0
_CUT_AT = 1
_CUT_HALF = 2
_FAILING = 3
_EIO = 5
_ERASED_BYTE = b"\xff"


class Flash:
    """A NOR flash of `blocks` blocks; littlefs sees it through MicroPython's extended block device
    protocol.
    """

    def __init__(self, image, counters, block_bytes):
        self._image = open(image, "r+b")
        self._file = open(counters, "r+b")
        self._counters = array("L", [0] * 4)
        self._orders = array("L", [0] * 4)
        self._orders_offset = self._file.readinto(self._counters)
        self._block_bytes = block_bytes
        self._blocks = os.stat(image)[6] // block_bytes
        self._erased = _ERASED_BYTE * block_bytes
        self._requests = (
            None,
            self._nothing,
            self._nothing,
            self._nothing,
            self._count,
            self._size,
            self._erase,
        )
        self._change = (self._change_plainly, self._change_as_ordered)

    def readblocks(self, block, buffer, offset=0):
        self._note(1)
        self._image.seek(block * self._block_bytes + offset)
        self._image.readinto(buffer)
        self._note(0)
        return 0

    def writeblocks(self, block, buffer, offset):
        return self._change[self._ordered()](_PROGRAMMED, len(buffer), block, offset, buffer)

    def ioctl(self, request, argument):
        return self._requests[request](argument)

    def _nothing(self, argument):
        return 0

    def _count(self, argument):
        return self._blocks

    def _size(self, argument):
        return self._block_bytes

    def _erase(self, block):
        return self._change[self._ordered()](_ERASES, 1, block, 0, self._erased)

    def _ordered(self):
        self._file.seek(self._orders_offset)
        self._file.readinto(self._orders)
        return self._orders[_ORDERED]

    def _change_plainly(self, counter, amount, block, offset, buffer):
        self._note(1)
        self._image.seek(block * self._block_bytes + offset)
        self._image.write(buffer)
        self._counters[_OPERATIONS] += 1
        self._counters[counter] += amount
        self._note(0)
        return 0

    def _change_as_ordered(self, counter, amount, block, offset, buffer):
        orders = self._orders
        if orders[_FAILING]:
            return -_EIO
        if orders[_CUT_AT] and self._counters[_OPERATIONS] >= orders[_CUT_AT] - 1:
            if orders[_CUT_HALF]:
                self._image.seek(block * self._block_bytes + offset)
                self._image.write(memoryview(buffer)[: len(buffer) // 2])
            wire.stop("power_cut")
        return self._change_plainly(counter, amount, block, offset, buffer)

    def _note(self, busy):
        self._counters[_BUSY] = busy
        self._file.seek(0)
        self._file.write(self._counters)
