"""The demonstration's plan, check by check, and carrying it out: whatever fails, the account goes
on to its last line.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from securemqtt.errors import SecureMQTTError
from securemqtt_tools.broker.kinds import AUTO
from securemqtt_tools.broker.mosquitto.program import find_mosquitto
from securemqtt_tools.cli import FatalError
from securemqtt_tools.demo import exchange, foundation, intruders, provisioning, wire
from securemqtt_tools.demo.account import Account
from securemqtt_tools.demo.bad_clients import words
from securemqtt_tools.demo.environment import Environment
from securemqtt_tools.demo.failure import Failed
from securemqtt_tools.demo.processes import descendants, wait_for_end
from securemqtt_tools.simboard.clock import MISSING, find_libfaketime
from securemqtt_tools.simboard.interpreter import find_micropython

_END_S = 5.0


@dataclass(frozen=True)
class Check:
    """Something that must hold.

    `run` gives in words what it saw, and raises when it does not hold.
    """

    title: str
    run: Callable[[Environment], str]


@dataclass(frozen=True)
class Section:
    """Checks under one heading."""

    heading: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be shown on this machine, and in words what has to be left out."""

    engine: str
    sections: tuple[Section, ...]
    remarks: tuple[str, ...]


_FOUNDATION = Section(
    "Authority and broker",
    (
        Check("The authority's key lies on the disk encrypted", foundation.make_authority),
        Check("Its certificates pass openssl verify -x509_strict", foundation.verify_chains),
        Check("The broker runs", foundation.start_broker),
    ),
)
_BOARD = Section(
    "A simulated Pico W on its serial port",
    (
        Check("It is provisioned", provisioning.provision_board),
        Check("A second run changes nothing", provisioning.provision_again),
        Check("Its private key is nowhere on this computer", provisioning.search_board_key),
    ),
)
_PROGRAM = Section(
    "The board's program, on this computer's own Python",
    (
        Check("It is provisioned", provisioning.provision_program),
        Check("A second run changes nothing", provisioning.provision_again),
        Check(
            "Its private key is in one place, for its owner only", provisioning.search_program_key
        ),
    ),
)
_EXCHANGE = Section(
    "Readings and commands",
    (
        Check("It starts from cold, and its readings reach the Pi", exchange.start_device),
        Check("The Pi's command is answered and obeyed", exchange.command_device),
        Check("The broker is killed and comes back: no reading is lost", exchange.kill_broker),
    ),
)
_INTRUDERS = Section(
    "Intruders",
    (
        Check("Without a certificate there is no way in", intruders.no_certificate),
        Check("Nor with one from a foreign CA of the same name", intruders.foreign_certificate),
        Check("Nor with one that has expired", intruders.expired_certificate),
        Check("Nor without TLS", intruders.without_tls),
        Check("Forged readings and commands arrive nowhere", intruders.forged_messages),
        Check("Nobody listens in on another device", intruders.eavesdropping),
        Check("Nobody takes over another's client id", intruders.takeover),
        Check("A revoked device is thrown out, and stays out", intruders.revoked_certificate),
        Check("Through all this, no reading was lost", exchange.account_for_all),
    ),
)
_IMPOSTOR = Section(
    "A man in the middle: the broker's names, a certificate from the wrong CA",
    (
        Check("The trap works", wire.place_machine_in_the_middle),
        Check("The Pi refuses it, before a byte of MQTT", wire.fool_subscriber),
        Check("So does the device", wire.fool_device),
    ),
)
_WIRE = Section(
    "The wire, as the relay has recorded it",
    (
        Check("No topic and no payload was readable", wire.tap),
        Check("Control: without TLS, the same search finds them", wire.control),
    ),
)


def make_plan(engine: str, with_board: bool) -> Plan:
    """Plan for this machine. Raise FatalError when a broker that is there cannot be used."""
    remarks = []
    if engine == AUTO and find_mosquitto() is None:
        remarks.append(
            "Mosquitto is not installed (apt-get install mosquitto): the embedded broker takes "
            "its place"
        )
    if with_board:
        obstacle = _obstacle_to_board()
        with_board = obstacle is None
        if obstacle is not None:
            remarks.append(obstacle)
        elif find_libfaketime() is None:
            remarks.append(MISSING)
    if not with_board:
        remarks.append(
            "left out: the serial port, MicroPython with its TLS, a private key that is on the "
            "board alone"
        )
    sections = (
        _FOUNDATION,
        _BOARD if with_board else _PROGRAM,
        _EXCHANGE,
        _INTRUDERS,
        _IMPOSTOR,
        _WIRE,
    )
    return Plan(engine, sections, tuple(f"{remark[0].upper()}{remark[1:]}." for remark in remarks))


def run_plan(plan: Plan, console: Console, keep: Path | None = None) -> bool:
    """Carry out the plan in `keep`, or in a temporary directory that is removed; tell whether every
    check has held.

    The last line says so in any case, also when an exception, such as KeyboardInterrupt, ends it
    early.
    """
    account = Account(console, sum(len(section.checks) for section in plan.sections) + 1)
    with ExitStack() as ending:
        ending.callback(account.close)
        directory = keep or Path(tempfile.mkdtemp(prefix="securemqtt-demo-"))
        if keep is None:
            ending.callback(shutil.rmtree, directory, ignore_errors=True)
        # One that was being started when Ctrl-C came is nobody's: it ends by itself, and writes
        # until then.
        ending.callback(lambda: wait_for_end(descendants(os.getpid()), _END_S))
        environment = Environment(directory, plan.engine, account.doing)
        ending.callback(environment.close)
        with account:
            _carry_out(plan, environment, account)
            account.heading("Afterwards")
            _perform(
                Check("Every process has ended", _clear_up if keep is None else _end),
                environment,
                account,
            )
    return account.all_held


def _carry_out(plan: Plan, environment: Environment, account: Account) -> None:
    account.heading("securemqtt: a board, a Pi and a broker over mutual TLS, all on this computer")
    for remark in plan.remarks:
        account.say(remark)
    environment.open()
    for section in plan.sections:
        account.heading(section.heading)
        for check in section.checks:
            _perform(check, environment, account)
    exposed = wire.exposed(environment)
    if exposed:
        account.say(exposed)


def _perform(check: Check, environment: Environment, account: Account) -> None:
    account.doing(check.title)
    try:
        note = check.run(environment)
    except (Failed, FatalError) as error:
        account.failed(check.title, str(error))
    except SecureMQTTError as error:
        account.failed(check.title, words(error))
    except Exception as error:
        logging.getLogger("securemqtt").exception("%s", check.title)
        account.failed(check.title, f"{type(error).__name__}: {error}")
    else:
        account.held(check.title, note)


def _clear_up(environment: Environment) -> str:
    said = _end(environment)
    shutil.rmtree(environment.directory)
    return f"{said}; nothing is left on the disk"


def _end(environment: Environment) -> str:
    """End the environment; what was started for it must be gone."""
    children = descendants(os.getpid())
    environment.close()
    left = wait_for_end(children, _END_S)
    if left:
        raise Failed(f"still running: {', '.join(map(str, left))}")
    return f"{len(children)} of them, after {time.monotonic() - environment.opened_at_s:.0f} s"


def _obstacle_to_board() -> str | None:
    if sys.platform != "linux":
        return "the simulated board needs Linux"
    try:
        find_micropython()
    except FatalError as error:
        return str(error)
    return None
