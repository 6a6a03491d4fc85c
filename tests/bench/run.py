"""Measure the figures that README and issues name, and print each beside its floor: `make bench`.
Exit status 1 if one falls short.

All sides run on this machine, in this run, against one Mosquitto with mutual TLS on loopback.
"""

from __future__ import annotations

import argparse
import sys

import bench_cpython
import bench_durable
import bench_micropython
import bench_network
from rich.console import Console
from rich.table import Table
from setting import setting

# figure: (at least, at most)
FLOORS: dict[str, tuple[float | None, float | None]] = {
    "against umqtt.simple": (500, None),
    "against the bare socket": (0.35, None),
    "heap beyond umqtt.simple and TLS, kB": (None, 20),
    "smallest heap for a session, kB": (None, 64),
    "against plain paho": (1.0, None),
    "durable, interval, against plain paho": (0.6, None),
    "backlog of 10,000 drained, against plain paho": (0.8, None),
    "heap with the durable outbox, kB": (None, 24),
    "smallest heap with the durable outbox, kB": (None, 72),
    "MicroPython at 50 ms, against window ÷ round trip": (0.9, None),
    "CPython at 50 ms, against window ÷ round trip": (0.9, None),
    "MicroPython, first message, round trips beyond the handshake": (None, 3),
    "CPython, first message, round trips beyond the handshake": (None, 3),
}
SIDES = {
    "micropython": bench_micropython.measure,
    "cpython": bench_cpython.measure,
    "network": bench_network.measure,
    "durable": bench_durable.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sides", nargs="*", choices=[*SIDES, []], help="which to measure (default: all)"
    )
    chosen = parser.parse_args().sides or list(SIDES)
    console = Console()
    table = Table(
        "part",
        "figure",
        "measured",
        "floor or ceiling",
        "",
        title="securemqtt, QoS 1, 64 B, mutual TLS, loopback, one run",
    )
    short = 0
    with setting() as everything:
        for side in chosen:
            with console.status(f"measuring {side}"):
                figures = SIDES[side](everything)
            for figure, value in figures.items():
                low, high = FLOORS.get(figure, (None, None))
                held = (low is None or value >= low) and (high is None or value <= high)
                short += not held
                bound = (
                    f"≥ {low:g}" if low is not None else f"≤ {high:g}" if high is not None else ""
                )
                table.add_row(
                    side,
                    figure,
                    f"{value:,.2f}",
                    bound,
                    "" if not bound else "held" if held else "SHORT",
                )
    console.print(table)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
