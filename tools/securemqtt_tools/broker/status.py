"""What there is to say of a broker at a glance: does it run, who may what, what runs out when."""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from securemqtt_tools.broker import lock
from securemqtt_tools.broker.config import PASSWORDS, BrokerConfig
from securemqtt_tools.broker.health import warnings
from securemqtt_tools.broker.kinds import AUTO
from securemqtt_tools.broker.passwords import read_hashes
from securemqtt_tools.broker.rules_file import newest_rules
from securemqtt_tools.cli import FatalError

_WAIT_S = 3.0


@dataclass(frozen=True)
class Status:
    """The lines to show, by their titles; `answers` tells whether something listens on the port."""

    rows: dict[str, str]
    warnings: list[str]
    answers: bool


def ask_status(config: BrokerConfig, now: datetime, authority: Path) -> Status:
    """Look at a broker's files, and at the rules that its authority's directory may have, and knock
    at its ports; at most some 6 s. Raise FatalError for files that cannot be read.
    """
    pid = lock.running(config.directory)
    answers = {
        port: _answers(config, port) for port in (config.port, config.websockets_port) if port
    }
    there = answers.get(config.port, False)
    rows = {"broker": f"{config.directory}, for {', '.join(config.names)}"}
    if config.engine != AUTO:
        rows["kind"] = config.engine
    if pid is not None:
        rows["running"] = f"yes: broker run, process {pid}"
    elif lock.is_held(config.directory):
        rows["running"] = "yes: broker run, in a container perhaps; it cannot be seen from here"
    elif there:
        rows["running"] = "its port answers, but not from broker run: the system's Mosquitto?"
    else:
        rows["running"] = "no: securemqtt broker run starts it"
    for port, good in answers.items():
        kind = " (WebSockets)" if port == config.websockets_port else ""
        rows[f"port {port}"] = ("answers" if good else "nothing answers") + kind
    certificate, crl = config.server_certificate(), config.crl()
    origin = "a public one" if config.is_public else "of your authority"
    rows["certificate"] = f"{origin}, {_until(certificate.not_valid_after_utc, now)}"
    end = crl.next_update_utc
    rows["CRL"] = f"{len(crl)} revoked" + (f", {_until(end, now)}" if end else "")
    roles = [f"{identity} ({role})" for identity, role in sorted(config.roles.items())]
    rows["roles"] = ", ".join(roles) or "none: nobody may read or command devices"
    rules = newest_rules(authority, config.directory)
    if rules.lines or rules.groups:
        rows["rules"] = f"{len(rules.lines)}; groups: {', '.join(sorted(rules.groups)) or 'none'}"
    if rules.networks:
        rows["networks"] = f"for {', '.join(sorted({one.whom for one in rules.networks}))}"
    if config.passwords:
        count = len(read_hashes(config.directory / PASSWORDS))
        rows["passwords"] = f"demanded; {count} set"
    try:
        found = warnings(config, now)
    except FatalError as error:  # too late already: said like what comes soon
        found = [str(error)]
    return Status(rows, found, there)


def _answers(config: BrokerConfig, port: int) -> bool:
    try:
        socket.create_connection((config.local_host, port), _WAIT_S).close()
    except OSError:
        return False
    return True


def _until(end: datetime, now: datetime) -> str:
    days = math.ceil((end - now) / timedelta(days=1))
    return f"until {end:%Y-%m-%d} ({days} days)" if days > 0 else f"ran out on {end:%Y-%m-%d}"
