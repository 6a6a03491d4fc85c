"""Run the whole system on this machine, and try to break into it: each line is a check, the last
one counts them.

An authority, a broker, a simulated Pico W provisioned over its serial port, a Raspberry Pi's
program, a relay that taps the wire, intruders. All of it is on loopback, in a temporary directory
that is removed at the end, and takes less than a minute.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from securemqtt_tools.broker.kinds import AUTO, ENGINES
from securemqtt_tools.cli import FatalError
from securemqtt_tools.demo.program import make_plan, run_plan

# a socket's name has 107 bytes (unix(7)), and the board's lies up to three directories down
_LONGEST_PATH = 45
_EXAMPLES = """\
Examples:
  securemqtt demo                    exit status 0 when every check held
  securemqtt demo --keep /tmp/demo   leave everything there, to look at logs and configuration
  securemqtt demo --engine amqtt     with the embedded broker, as where there is no Mosquitto
  securemqtt demo --no-board         with CPython as the board, as where there is no MicroPython
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=AUTO,
        help="the broker (default: Mosquitto if installed, else amqtt, the embedded one, which is "
        "for trying things out)",
    )
    parser.add_argument("--no-board", action="store_true", help="leave out the simulated board")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="use this directory, which must be new or empty, and keep it",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demonstration; 0 when every check held."""
    plan = make_plan(args.engine, not args.no_board)
    keep = args.keep and args.keep.resolve()
    _check_place(keep)
    return 0 if run_plan(plan, Console(highlight=False), keep) else 1


def _check_place(keep: Path | None) -> None:
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise FatalError(
            f"{keep} is in use for something else: give --keep a directory that is new or empty"
        )
    directory = keep or Path(tempfile.gettempdir())
    if len(str(directory)) > _LONGEST_PATH:
        remedy = "use another directory with --keep" if keep else "set TMPDIR to another"
        raise FatalError(
            f"{directory} is too long a name for the sockets in it, of at most {_LONGEST_PATH} "
            f"characters: {remedy}"
        )
