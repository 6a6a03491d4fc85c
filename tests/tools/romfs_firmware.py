"""boot.py of a simulated board whose firmware is to have a ROMFS, which MicroPython's Linux port
has not: `vfs.rom_ioctl` as the documentation of MicroPython describes it, over a file.
"""

import sys

import vfs

_FILE = "/romfs.bin"
_SIZE_BYTES = 160 * 1024
_BLOCK_BYTES = 4096
_MAGIC = b"\xd2\xcd\x31"
_EINVAL = 22


class _Vfs:
    """The module vfs, and a partition."""

    def __init__(self):
        self._partition = bytearray(_SIZE_BYTES)
        try:
            with open(_FILE, "rb") as file:  # noqa: PTH123  (MicroPython has no pathlib)
                file.readinto(self._partition)
        except OSError:
            return
        if self._partition[:3] == _MAGIC:
            vfs.mount(vfs.VfsRom(memoryview(self._partition)), "/rom")

    def __getattr__(self, name):
        return getattr(vfs, name)

    def rom_ioctl(self, operation, *arguments):
        if operation == 1:  # number of partitions
            return 1
        if arguments[0] != 0:
            return -_EINVAL
        if operation == 2:  # the partition
            return memoryview(self._partition)
        if operation == 3:  # erase; return the smallest write
            offset, size = arguments[1:] if len(arguments) == 3 else (0, arguments[1])
            for index in range(offset, offset + size):
                self._partition[index] = 0xFF
            return 4
        if operation == 4:  # write
            offset, data = arguments[1:]
            self._partition[offset : offset + len(data)] = data
            return 0
        if operation == 5:  # done
            with open(_FILE, "wb") as file:  # noqa: PTH123
                file.write(self._partition)
            return 0
        if operation == 6:  # bytes per block
            return _BLOCK_BYTES
        return -_EINVAL


sys.modules["vfs"] = _Vfs()
sys.path[:] = ["", ".frozen", "/rom", "/rom/lib", "/lib"]
print("ROMFS is ready")
