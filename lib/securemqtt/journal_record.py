"""A journal's records, as bytes, and its files' names. See journal.py."""

import os
import struct
from binascii import crc32

from ._compat import TYPE_CHECKING, const

if TYPE_CHECKING:
    from .journal import DurableOutbox
    from .journal_write import Segment

HEAD = ">HBHIII"
HEAD_BYTES = const(17)
RECORD_BYTES = const(21)  # head and checksum: what a record takes beside topic and payload
# Flags: bits 0 and 1 are the QoS.
RETAIN = const(4)
NEWEST_ONLY = const(8)
FLOOR = const(16)


def path_of(outbox: "DurableOutbox", segment: "Segment") -> str:
    """Return the path of a segment's file."""
    return "{}/{:012x}{:08x}".format(outbox._directory, segment.first, outbox._salt)


def encode(
    outbox: "DurableOutbox", flags: int, topic: bytes, payload: bytes, expiry: int, number: int
) -> bytes:
    """Return the bytes of a record."""
    head = struct.pack(
        HEAD, outbox._salt >> 16, flags, len(topic), len(payload), expiry, number & 0xFFFFFFFF
    )
    record = b"".join((head, topic, payload))
    return record + struct.pack("<I", crc32(record, outbox._salt))


def clear(outbox: "DurableOutbox") -> None:
    """Remove what is left of a segment that was not written to its end. May raise OSError."""
    if "new" in os.listdir(outbox._directory):
        os.remove(outbox._directory + "/new")
