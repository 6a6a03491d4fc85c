"""`securemqtt broker audit-log`: who came in, left, was refused or put out, by the broker's log."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from rich.console import Console
from rich.table import Table
from rich.text import Text

from securemqtt_tools import completion
from securemqtt_tools.broker.audit.event import CONNECTED, DISCONNECTED, EVICTED, REFUSED, Event
from securemqtt_tools.broker.audit.findings import Certificate, Finding, Judge, Networks
from securemqtt_tools.broker.audit.reader import Reader
from securemqtt_tools.broker.audit.source import LogFile, standard_input
from securemqtt_tools.broker.config import CRL, LOG, BrokerConfig
from securemqtt_tools.broker.rules_file import newest_rules, read_rules
from securemqtt_tools.cli import FatalError, warn, whole_number
from securemqtt_tools.commands.broker_common import directory_of
from securemqtt_tools.commands.telling import table_console
from securemqtt_tools.home import Home
from securemqtt_tools.naming import closest
from securemqtt_tools.output import reader_has_gone
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.inventory import Inventory
from securemqtt_tools.pki.layout import INVENTORY
from securemqtt_tools.pki.names import check_device_id, serial_text
from securemqtt_tools.pki.profiles import DEVICE, SHARED

EXAMPLES = (
    "audit-log --refused --since 12h",
    "audit-log --id greenhouse-1 --last 200",
    "audit-log --file /var/log/mosquitto/mosquitto.log --check --since 1d",
    "audit-log --follow --json",
)
DETAILS = """

It reads the end of broker.log in the home, and of the one before, 16 MB at most; or the log of a
broker elsewhere. What a broker does not tell is a -: Mosquitto and RabbitMQ tell no certificate.
docs/audit-log.md has which broker tells what, and what is called a breach.

Exit status 0; with --check 1 if there was a breach. A file in which no line is a broker's is a
mistake: exit status 1. The networks that count are those of today, for what was before, too."""

_STDIN = Path("-")
_SINCE = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_STYLES = {CONNECTED: "green", DISCONNECTED: "dim", REFUSED: "yellow", EVICTED: "yellow"}
_BREACH = "red"
_WIDE = 100  # in fewer columns a table has none of the certificate
_CERTIFICATE = 4  # its place
_SERIAL_DIGITS = 16  # of the 40, in a table: `ca show` takes 8

Found = tuple[Event, list[Finding]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--file",
        type=Path,
        metavar="LOG",
        help="read this log, - for standard input (default: the home's, HOME/broker/broker.log)",
    )
    identity = parser.add_argument("--id", metavar="ID", help="only what is about this id")
    completion.completed(identity, completion.ids)
    parser.add_argument(
        "--refused", action="store_true", help="only who was refused, or put out, or a breach"
    )
    parser.add_argument(
        "--since",
        type=_since,
        metavar="WHEN",
        help="only what is newer: 90m, 12h, 7d, or a date and time, 2026-11-29T22:00",
    )
    parser.add_argument(
        "--last",
        type=whole_number(1, 100_000),
        default=50,
        metavar="N",
        help="the last N (default: 50)",
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on with what is written from now on, until Ctrl-C"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each")
    parser.add_argument("--check", action="store_true", help="exit status 1 if there was a breach")


def audit_log(args: argparse.Namespace) -> int:
    """Show it; 1 with --check if there was a breach, else 0. Raise FatalError."""
    if args.id is not None:
        check_device_id(args.id)
        _warn_unknown(args)
    now = datetime.now(timezone.utc)
    judge = Judge(_networks(args), _certificates(args))
    log = None if args.file == _STDIN else LogFile(args.file or _log_of(args))
    reader = Reader(now, log is None or log.whole)

    def found(lines: Iterable[bytes]) -> Iterator[Found]:
        for line in lines:
            for event in reader.events(line):
                findings = list(judge.findings(event))  # of all, since they build on each other
                if _is_wanted(args, event, findings):
                    yield event, findings

    show = _json if args.json else _line
    last: deque[Found] = deque(maxlen=args.last)
    count = breaches = 0
    is_stream = log is None and args.follow
    for line in _sharing(args):
        print(line, file=sys.stderr if args.json else sys.stdout)
    for one in found(standard_input() if log is None else log.lines()):
        count += 1
        breaches += _is_breach(one[1])
        if is_stream:
            _print(one, show)
        else:
            last.append(one)
    if not args.follow and not reader.has_read and (args.check or reader.has_lines):
        place = "standard input" if log is None else args.file or _log_of(args)
        raise FatalError(
            f"no line of {place} is one that a broker writes, so it tells nothing of who came in: "
            f"name its log by --file"
        )
    if args.json:
        for one in last:
            _print(one, show)
    elif not is_stream:
        _table(last, count, breaches)
    if log is not None and args.follow:
        with suppress(KeyboardInterrupt):  # which is how it is told to end
            for one in found(log.later(lambda: not reader_has_gone())):
                breaches += _is_breach(one[1])
                _print(one, show)
    return 1 if args.check and breaches else 0


def _warn_unknown(args: argparse.Namespace) -> None:
    """Warn of an id that has never had a certificate of this home's authority."""
    inventory = Home(args.home).ca / INVENTORY
    if not inventory.exists():
        return
    sharing = newest_rules(Home(args.home).ca, directory_of(args)).shared.values()
    ids = {one.subject for one in Inventory(inventory).entries(DEVICE)}.union(*sharing)
    # By a certificate that others share, it may have come in with Mosquitto all the same.
    if args.id not in ids and not _shared_meanwhile(args):
        meant = closest(args.id, ids)
        warn(
            f"the authority of this home has issued no certificate to {args.id}"
            + (f": did you mean {meant}?" if meant else "")
        )


def _log_of(args: argparse.Namespace) -> Path:
    log = BrokerConfig.open(directory_of(args)).directory / LOG
    if not log.exists():
        raise FatalError(
            f"there is no {log} yet: securemqtt broker run writes it. Where it is installed in "
            f"the system, use --file /var/log/mosquitto/mosquitto.log"
        )
    return log


def _networks(args: argparse.Namespace) -> Networks:
    """Return from where ids have to come."""
    rules = read_rules(directory_of(args))
    return {one: rules.networks_of(one) for one in rules.bound()}


def _sharing(args: argparse.Namespace) -> Iterator[str]:
    """Say who shares a certificate: most brokers do not tell by which one somebody has come. Those
    who share it today are not all who may have come by it.
    """
    rules = newest_rules(Home(args.home).ca, directory_of(args))
    groups = _shared_meanwhile(args)
    for group in sorted(rules.shared.keys() | groups):
        ids = rules.shared.get(group, frozenset())
        if ids and (args.id is None or args.id in ids):
            yield (
                f"Note: {', '.join(sorted(ids))} share the certificate of {group}: which of them "
                f"it was, the password alone says, and this log proves nothing."
            )
        if group in groups and args.id not in ids:
            yield (
                f"Note: the certificate that {group} shares, or has shared, has let in whoever "
                f"shared it then, and with Mosquitto whoever has a password: where this log tells "
                f"no certificate, it does not prove that it was {args.id or 'who it says'}."
            )


def _shared_meanwhile(args: argparse.Namespace) -> set[str]:
    """Return the groups with a certificate to share that is good, or was in the time that is asked
    for, by the inventory of this home, if there is one. Raise FatalError.
    """
    inventory = Home(args.home).ca / INVENTORY
    if not inventory.exists():
        return set()
    return {
        one.subject
        for one in Inventory(inventory).entries(SHARED)
        if args.since is None
        or args.since < (one.changed_at if one.state == REVOKED else one.not_after)
    }


def _certificates(args: argparse.Namespace) -> dict[str, Certificate]:
    """Return what the home knows of certificates, by serial number: the inventory, else the CRL of
    a broker whose authority is elsewhere. Raise FatalError.
    """
    inventory = Home(args.home).ca / INVENTORY
    if inventory.exists():
        held = Inventory(inventory)
        known = {
            one.serial: Certificate(
                one.subject,
                one.changed_at if one.state == REVOKED else None,
                one.role == SHARED,
            )
            for one in held.entries()
        }
        for gone in held.forgotten()[0]:
            known.setdefault(gone.serial, Certificate(None, gone.changed_at))
        return known
    if (directory_of(args) / CRL).exists():
        return {
            serial_text(one.serial_number): Certificate(None, _revoked_at(one))
            for one in BrokerConfig.open(directory_of(args)).crl()
        }
    return {}


def _revoked_at(one: x509.RevokedCertificate) -> datetime:
    return one.revocation_date_utc


def _is_wanted(args: argparse.Namespace, event: Event, findings: list[Finding]) -> bool:
    if args.id is not None and event.identity != args.id:
        return False
    if args.refused and event.what not in (REFUSED, EVICTED) and not _is_breach(findings):
        return False
    return args.since is None or event.time is None or event.time >= args.since


def _is_breach(findings: list[Finding]) -> bool:
    return any(one.is_breach for one in findings)


def _table(last: Collection[Found], count: int, breaches: int) -> None:
    console = table_console()
    has_serials = console.width >= _WIDE and any(event.serial for event, _ in last)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("time", "id", "what", "from", *(["certificate"] * has_serials)):
        table.add_column(title, no_wrap=True)
    table.add_column("why", overflow="fold")
    shown = shown_breaches = 0
    for one in last:
        cells = _cells(one)
        table.add_row(*(cells if has_serials else cells[:_CERTIFICATE] + cells[_CERTIFICATE + 1 :]))
        shown += 1
        shown_breaches += _is_breach(one[1])
    if shown:
        console.print(table)
    else:
        print("Nothing of that is in the log.")
    if count > shown:
        print(f"{count - shown} before these are not shown: --last {count} shows them.")
    if breaches:
        earlier = f", {breaches - shown_breaches} of them not shown" * (breaches > shown_breaches)
        print(f"Breaches: {breaches}{earlier}.")


def _cells(one: Found) -> list[Text]:
    event, findings = one
    why = Text("; ".join(filter(None, (event.reason, *(_said(each) for each in findings)))))
    if _is_breach(findings):
        why.stylize(_BREACH)
    serial = event.serial or "-"
    return [
        Text(f"{event.time.astimezone():%Y-%m-%d %H:%M:%S}" if event.time else "-"),
        Text(event.identity or "-"),
        Text(event.what, _STYLES[event.what]),
        Text(event.address or "-"),
        Text(serial if len(serial) <= _SERIAL_DIGITS else f"{serial[:_SERIAL_DIGITS]}…"),
        why,
    ]


def _said(finding: Finding) -> str:
    return f"BREACH: {finding.text}" if finding.is_breach else finding.text


def _print(one: Found, show: Callable[[Found], str | Text]) -> None:
    shown = show(one)
    if isinstance(shown, Text):
        Console(highlight=False, soft_wrap=True).print(shown)
    else:
        print(shown)
    sys.stdout.flush()


def _line(one: Found) -> Text:
    """Return a row as a line of its own: nobody knows how wide the next ones are."""
    return Text("  ").join(_cells(one))


def _json(one: Found) -> str:
    event, findings = one
    return json.dumps(
        {
            "time": event.time.astimezone().isoformat() if event.time else None,
            "event": event.what,
            "id": event.identity,
            "address": event.address,
            "serial": event.serial,
            "reason": event.reason or None,
            "breaches": [each.text for each in findings if each.is_breach],
            "notes": [each.text for each in findings if not each.is_breach],
        }
    )


def _since(text: str) -> datetime:
    """Read a time for argparse."""
    found = _SINCE.fullmatch(text)
    if found is not None:
        ago = timedelta(**{_UNITS[found[2]]: int(found[1])})
        return datetime.now(timezone.utc) - ago
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise argparse.ArgumentTypeError(
            f"must be 90m, 12h, 7d, or a date as 2026-11-29 or 2026-11-29T22:00, not {text[:40]!r}"
        ) from error
