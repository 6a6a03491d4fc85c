"""Run the contract's scenarios on your board, against a broker that this machine runs meanwhile,
and write a report that can be sent in.

The board's identity, program and files stay as they are: what is needed goes into a directory of
its own, with certificates for the occasion, and is removed at the end. The board's own program
rests meanwhile, and starts again.

Examples:
  securemqtt provision selftest /dev/ttyACM0
  securemqtt provision selftest /dev/ttyUSB0 --address 192.168.1.5
  securemqtt provision selftest /dev/ttyACM0 --only connecting --only publishing
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from tempfile import NamedTemporaryFile

from rich.console import Console

from securemqtt_tools.broker.kinds import AUTO, SMALL
from securemqtt_tools.cli import FatalError, add_home_option, whole_number
from securemqtt_tools.home import Home
from securemqtt_tools.pki.files import READABLE, write_file
from securemqtt_tools.provision.steps import Steps
from securemqtt_tools.selftest.report import HELD, NOT_RUN, NOT_TO_BE_SENT, Report
from securemqtt_tools.selftest.running import DEADLINE_S, SCENARIOS, Order, run_selftest


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("port", metavar="PORT", help="the board's serial port (mpremote devs)")
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="this machine's address, as the board reaches it (default: found by the board's own)",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SCENARIOS,
        metavar="SCENARIO",
        help=f"run this one; may be repeated: {', '.join(SCENARIOS)}",
    )
    parser.add_argument(
        "--deadline",
        type=whole_number(10, 3600, "s"),
        default=DEADLINE_S,
        metavar="S",
        help=f"how long each scenario may take (default: {DEADLINE_S} s)",
    )
    parser.add_argument(
        "--engine",
        choices=SMALL,
        default=AUTO,
        help="which broker to run (amqtt: the embedded one, for trying things out)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the report is written; made if it is not there (default: here)",
    )
    parser.add_argument(
        "--serial-number",
        action="store_true",
        help="have the board's serial number in the report",
    )
    add_home_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run it; 0 when every scenario that was run held. Raise FatalError."""
    made = _prepare(args.report)
    begun = datetime.now(timezone.utc)
    report = Report(begun)
    steps = Steps(Console(highlight=False))
    order = Order(
        port=args.port,
        scenarios=tuple(args.only or SCENARIOS),
        address=args.address,
        engine=args.engine,
        cache=Home(args.home).cache,
        deadline_s=args.deadline,
        serial_number=args.serial_number,
    )
    try:
        run_selftest(order, report, steps)
    except (FatalError, KeyboardInterrupt) as error:
        report.broken_off = str(error) or "interrupted"
        if report.results:
            _write(report, args.report, steps)
        else:
            _remove_empty(made)
        raise
    _write(report, args.report, steps)
    ended = [one for one in report.results if one.outcome != NOT_RUN]
    failed = [one.scenario for one in ended if one.outcome != HELD]
    if failed:
        raise FatalError(
            f"{len(failed)} of {len(ended)} scenarios did not hold ({', '.join(failed)}): the "
            "report says why"
        )
    left_out = [
        f"{one.scenario} was not run: {one.what}" for one in report.results if one not in ended
    ]
    steps.say("; ".join([f"All {len(ended)} scenarios held", *left_out]) + ".")
    return 0


def _write(report: Report, directory: Path, steps: Steps) -> None:
    stem = f"securemqtt-selftest-{report.begun:%Y%m%d-%H%M%S}"
    texts = {".md": report.as_markdown(), ".json": report.as_json()}
    try:
        for ending, text in texts.items():
            write_file(directory / (stem + ending), text.encode(), READABLE)
    except FatalError as error:
        for line in "".join(texts.values()).splitlines():
            steps.say(line)
        raise FatalError(f"{error}: the report is printed above instead") from error
    steps.say(f"  report: {directory / stem}.md and .json")
    if report.simulated:
        steps.say(f"  {NOT_TO_BE_SENT}")


def _prepare(directory: Path) -> list[Path]:
    """Make the report's directory, see that a file can be made there, before minutes are spent on
    what goes into it, and return which directories were made, the innermost first.

    Raise FatalError.
    """
    made = [one for one in (directory, *directory.parents) if not one.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(prefix=".securemqtt-selftest-", dir=directory):
            pass
    except OSError as error:
        _remove_empty(made)
        raise FatalError(f"no report can be written in {directory}: {error.strerror}") from error
    return made


def _remove_empty(directories: list[Path]) -> None:
    for one in directories:
        with suppress(OSError):  # somebody has put something there
            one.rmdir()
