"""The packet reader under random, damaged, truncated, oversized input, in pieces of any size.

A failure prints its seed: SECUREMQTT_SEED=… repeats it, on either interpreter.
"""

import gc

from securemqtt.protocol.session import Reader
from support.interpreters.either import Random, for_seeds, micropython_only
from support.models.packet_streams import (
    check,
    random_cuts,
    random_packet,
    random_stream,
    read,
)
from support.packets import publish

_LIMITS = ((128, 64), (200, 512), (1000, 128), (4000, 512))


def test_good_streams_come_out_exactly() -> None:
    def trial(random: Random) -> None:
        max_bytes, buffer_bytes = random.pick(_LIMITS)
        # fewer of the long ones: a board's heap has no room for 160 kB in one piece
        count = random.below(20 if max_bytes <= 1000 else 6)
        stream = b"".join([random_packet(random, 2 * max_bytes) for _ in range(count)])
        reader = Reader(max_bytes, buffer_bytes)
        check(reader, stream, random_cuts(random), max_bytes, buffer_bytes)
        assert not reader.partial()

    for_seeds(150, trial)


def test_of_bad_streams_only_malformed_packet_comes_and_the_cuts_do_not_matter() -> None:
    readers = {limits: Reader(*limits) for limits in _LIMITS}

    def trial(random: Random) -> None:
        limits = random.pick(_LIMITS)
        stream = random_stream(random, random.pick((20, 300, 2 * limits[0])))
        for _ in range(3):
            check(readers[limits], stream, random_cuts(random), *limits)

    for_seeds(500, trial)


def test_noise_behind_each_first_byte() -> None:
    def trial(random: Random) -> None:
        reader = Reader(128, 64)
        for first in range(256):
            check(
                reader,
                bytes((first,)) + random.data(random.below(12)),
                random_cuts(random),
                128,
                64,
            )

    for_seeds(5, trial)


@micropython_only  # CPython does not say; there the reader is the same code
def test_memory_does_not_grow() -> None:
    reader = Reader(1000, 128)

    def trial(random: Random) -> None:
        read(reader, random_stream(random, 2000), random_cuts(random))
        reader.reset()

    for_seeds(20, trial)
    grown = []
    # In one round MicroPython may have to make more room for its table of strings; what leaks does
    # so in each.
    for _ in range(3):
        gc.collect()
        before = gc.mem_alloc()
        for_seeds(100, trial)
        gc.collect()
        grown.append(gc.mem_alloc() - before)
    assert min(grown) < 512, grown


@micropython_only
def test_a_length_of_256_mb_takes_no_memory() -> None:
    reader = Reader(1000, 128)
    # loads what the first of its kind does
    read(reader, publish(b"t", b"x" * 2000), lambda limit: limit)
    piece = b"x" * 4096
    gc.collect()
    before = gc.mem_alloc()
    read(reader, b"\x30\xff\xff\xff\x7f\0\1t", lambda limit: limit)
    for _ in range(500):
        read(reader, piece, lambda limit: limit)
        assert reader.partial()
    gc.collect()
    assert gc.mem_alloc() - before < 512
