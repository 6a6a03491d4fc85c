"""Measure the figures that README and issues name, and print each beside its floor: `make bench`.
Exit status 1 if one falls short.

All sides run on this machine, in this run, against one Mosquitto with mutual TLS on loopback.

Examples:
  python tests/bench/run.py                     everything, some minutes
  python tests/bench/run.py micropython         a part
  python tests/bench/run.py --heap-only         heap alone, one round, in under a minute
  python tests/bench/run.py --heap-only --library ../other-checkout
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bench_asyncio
import bench_authority
import bench_brokers
import bench_cpython
import bench_durable
import bench_heap
import bench_network
import bench_provision
import bench_queued
import bench_rates
import bench_revocation
import bench_rules
from figures import Figure
from paths import ROOT
from rich.console import Console
from rich.table import Table
from setting import Setting, setting

Measure = Callable[..., Iterator[Figure]]
SIDES: dict[str, tuple[Measure, ...]] = {
    "micropython": (bench_heap.measure, bench_rates.measure),
    "cpython": (bench_cpython.measure,),
    "asyncio": (bench_asyncio.measure,),
    "network": (bench_network.measure,),
    "durable": (bench_durable.measure,),
    "queued": (bench_queued.measure,),
    "provision": (bench_provision.measure,),
    "authority": (bench_authority.measure,),
    "revocation": (bench_revocation.measure,),
    "rules": (bench_rules.measure,),
}
# What takes a HiveMQ and a RabbitMQ is measured where it is asked for.
ASKED_FOR: dict[str, tuple[Measure, ...]] = {"brokers": (bench_brokers.measure,)}

_WIDTH = 140  # of a table that goes into a file


def main() -> int:
    arguments = _arguments()
    width = None if sys.stdout.isatty() else _WIDTH
    console = Console(highlight=False, soft_wrap=True, width=width)
    table = Table(
        "part",
        "figure",
        "64 bits",
        "32 bits",
        "floor or ceiling",
        "",
        title="securemqtt, QoS 1, 64 B, mutual TLS, loopback, one run, medians",
    )
    short = 0
    started = time.monotonic()
    with setting(arguments.library) as everything:
        for side, figure in _measured(arguments, everything):
            console.print(figure.account())
            short += figure.falls_short
            table.add_row(
                side,
                figure.name,
                figure.shown(64),
                figure.shown(32),
                str(figure.bound or ""),
                figure.verdict,
            )
    console.print(table)
    console.print(f"{time.monotonic() - started:.0f} s, library {everything.library.directory}")
    return 1 if short else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sides",
        nargs="*",
        choices=[*SIDES, *ASKED_FOR, []],
        help="which to measure (default: all but brokers)",
    )
    parser.add_argument(
        "--heap-only", action="store_true", help="one round of the heap figures, both word sizes"
    )
    parser.add_argument(
        "--library",
        type=Path,
        default=ROOT,
        metavar="DIR",
        help="measure the library of another checkout, compiled by the tools beside it, or one "
        "that is compiled already (DIR/securemqtt/*.mpy)",
    )
    return parser.parse_args()


def _measured(arguments: argparse.Namespace, everything: Setting) -> Iterator[tuple[str, Figure]]:
    if arguments.heap_only:
        yield from (("heap", figure) for figure in bench_heap.measure(everything, rounds=1))
        return
    for side in arguments.sides or SIDES:
        for measure in (SIDES | ASKED_FOR)[side]:
            yield from ((side, figure) for figure in measure(everything))


if __name__ == "__main__":
    sys.exit(main())
