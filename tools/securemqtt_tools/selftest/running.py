"""A selftest from its begin to its end: the board is borrowed, tried, and given back as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from securemqtt_tools import entry
from securemqtt_tools.broker.kinds import AMQTT
from securemqtt_tools.broker.ports import check_own_address
from securemqtt_tools.cli import FatalError, warn
from securemqtt_tools.provision.board import survey
from securemqtt_tools.provision.board.files import make_directories
from securemqtt_tools.provision.board.repl import GIVING_BACK, Board
from securemqtt_tools.provision.steps import Steps
from securemqtt_tools.selftest.report import (
    HELD,
    NOT_RUN,
    SIMULATED,
    Report,
    Result,
    outcome_of,
)
from securemqtt_tools.selftest.surroundings import Surroundings, address_towards, surroundings
from securemqtt_tools.selftest.visit import PLACE, Visit, clear

DEADLINE_S = 300
# In this order: what comes first is what the others rest upon. Those that are missing need threads,
# or a broker with other limits (busy), or one that refuses as it is told (refusing).
SCENARIOS = (
    "connecting",
    "publishing",
    "receiving",
    "queueing",
    "reconnecting",
    "restarting",
    "unattended",
    "identifiers",
    "silence",
    "long_handler",
    "callers",
    "exhausted",
    "backlog",
    "asyncio_tasks",
    "asyncio_edges",
)
# The embedded broker's sessions end with it, and with them what it has acknowledged.
_NOT_EMBEDDED = ("restarting",)


@dataclass(frozen=True)
class Order:
    """What is wanted: the port, which scenarios, and how."""

    port: str
    scenarios: Sequence[str]
    address: str | None
    engine: str
    cache: Path
    deadline_s: float
    serial_number: bool


def run_selftest(order: Order, report: Report, steps: Steps) -> None:
    """Try the board, and note what came of it in `report`, which is worth something in any case.

    The board is left as it was: its identity, its program, which starts again, and no file more.
    Raise FatalError for what is not the board's fault.
    """
    if order.address is not None:
        check_own_address(order.address)
    with (
        entry.put_off(GIVING_BACK) as hold,
        Board(order.port) as board,
        _given_back(board, steps, hold) as visit,
    ):
        with steps.step("Board") as step:
            facts = visit.facts
            report.describe_board(facts, visit.more_facts(order.serial_number))
            what = f"{facts.machine}, MicroPython {'.'.join(map(str, facts.version))}"
            step.note = f"{what}; {SIMULATED}" if report.simulated else what
        with steps.step("Clock") as step:
            step.note = survey.set_clock(board, facts, datetime.now(timezone.utc), dry_run=False)
        with ExitStack() as stack:
            _try_out(order, report, steps, board, visit, stack, hold)


def _try_out(
    order: Order,
    report: Report,
    steps: Steps,
    board: Board,
    visit: Visit,
    stack: ExitStack,
    hold: Callable[[], None],
) -> None:
    with steps.step("Network") as step:
        make_directories(board, [f"{PLACE}/device", f"{PLACE}/operator"])
        there = visit.join()
        step.note = "joined its Wi-Fi" if there else "the board has no Wi-Fi"
        if there:
            report.hide(there)
    if order.address is None and not there:
        raise FatalError(
            "the board does not say where it is in the network: name this machine's address there "
            "with --address"
        )
    address = order.address or address_towards(there or "")
    report.hide(address)
    with steps.step("Broker"):
        place = stack.enter_context(surroundings(address, order.engine))
        stack.callback(hold)  # the first thing at the end: nothing of the broker stays either
    report.note_broker(place.broker.engine)
    with steps.step("Copy") as step:
        whose = visit.put(order.scenarios, place.bundles(), order.cache, step.expect, step.advance)
        step.note = f"the library: {whose}"
    report.board["library"] = whose
    with steps.step("Figures") as step:
        report.figures = visit.figures()
        step.note = (
            f"connected in {report.figures['connect_ms'] / 1000:.1f} s, "
            f"{report.figures['heap_free_connected'] // 1024} kB of heap free then"
        )
    for number, name in enumerate(order.scenarios, 1):
        if name in _NOT_EMBEDDED and place.broker.engine == AMQTT:
            report.results.append(Result(name, NOT_RUN, what="it needs Mosquitto"))
            continue
        title = f"{number}/{len(order.scenarios)} {name}"
        _play(title, name, order, report, place, visit, steps)


def _play(
    title: str,
    name: str,
    order: Order,
    report: Report,
    place: Surroundings,
    visit: Visit,
    steps: Steps,
) -> None:
    place.act("broker forget")  # each has a broker that knows nothing yet
    begun = time.monotonic()
    with suppress(_NotHeldError), steps.step(title) as step:
        said = visit.play(name, place.closed_port(), place.act, order.deadline_s)
        result = _result(name, said, time.monotonic() - begun)
        report.results.append(result)
        step.note = f"{len(result.checks)} checks, {result.seconds:.1f} s"
        if result.outcome != HELD:
            step.note = f"{result.outcome}: {result.what or 'it did not say why'}"
            raise _NotHeldError  # for the step to be marked
    place.settle()


def _result(name: str, said: dict[str, Any], seconds: float) -> Result:
    error = said.get("error", "")
    what = said.get("what", "")
    return Result(
        scenario=name,
        outcome=outcome_of(said),
        seconds=round(seconds, 1),
        checks=said["checks"],
        what=f"{error}: {what}" if error else what,
        traceback=said.get("traceback", ""),
        log=list(said["log"]),
        heap_free_before=said.get("heap_free_before"),
        heap_free_after=said.get("heap_free_after"),
    )


class _NotHeldError(Exception):
    """A scenario did not hold."""


@contextmanager
def _given_back(board: Board, steps: Steps, hold: Callable[[], None]) -> Iterator[Visit]:
    """Borrow the board; give it back as it was, whatever happens. `hold` puts off Ctrl-C
    meanwhile.
    """
    try:
        visit = Visit(board)
        clear(board)
        yield visit
    except BaseException as first:
        hold()
        try:
            try:
                board.recover()
            except FatalError:  # a handshake, which nothing interrupts, may outlast it
                board.recover()
            clear(board)
            board.start_program()
        except FatalError as error:
            if not isinstance(first, FatalError):  # else the first fault is the one to tell
                warn(
                    f"the board could not be given back ({error}): {PLACE} may be left on it, "
                    f"which the next selftest removes, or mpremote fs rm -r :{PLACE}"
                )
        raise
    hold()
    with steps.step("Board given back"):
        board.soft_reset()
        clear(board)
        board.start_program()
