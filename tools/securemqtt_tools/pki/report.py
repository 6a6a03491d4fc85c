"""What the inventory says, as tables for people and as JSON for programs.

An inventory may come from a backup, or from somebody else: its texts are escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from securemqtt.platform import escaped
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.entry import EXPIRED, ISSUED, REVOKED, STATES, SUPERSEDED, Entry
from securemqtt_tools.pki.profiles import ROLES

_STYLES = {ISSUED: "green", SUPERSEDED: "dim", REVOKED: "red", EXPIRED: "yellow"}
_SOON_DAYS = 60
_LESS_WANTED = ("key", "serial", "role", "days left")
_GAP = "  "
_HEADINGS = {
    heading: Text(heading, "bold")
    for heading in ("subject", "role", "state", "ends", "days left", "key", "serial")
}


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256 fingerprint as openssl prints it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def entries_json(entries: Iterable[Entry], now: datetime) -> str:
    """Return certificates as a JSON list."""
    return json.dumps([_entry_object(entry, now) for entry in entries], indent=2)


def entries_lines(entries: Iterable[Entry], now: datetime, width: int) -> Iterator[Text]:
    """Return certificates in columns, a line each, the headings first.

    Columns for which a terminal of this width is too narrow are left out: a date or an id in pieces
    helps nobody, and `--json` has all of it. Not a table of rich's, which takes half a minute for
    10,000 of them.
    """
    rows = [_cells(entry, now) for entry in entries]
    widths = {
        heading: max(cell_len(row[heading].plain) for row in (_HEADINGS, *rows))
        for heading in _HEADINGS
    }
    for heading in _LESS_WANTED:
        if sum(widths.values()) + len(_GAP) * (len(widths) - 1) <= width:
            break
        del widths[heading]
    for row in (_HEADINGS, *rows):
        cells = []
        for heading, wide in widths.items():
            cell = row[heading].copy()
            cell.align("right" if heading == "days left" else "left", wide)
            cells.append(cell)
        line = Text(_GAP).join(cells)
        line.rstrip()
        yield line


def _cells(entry: Entry, now: datetime) -> dict[str, Text]:
    state, days = entry.state_at(now), math.ceil((entry.not_after - now) / timedelta(days=1))
    soon = "yellow" if state == ISSUED and days < _SOON_DAYS else ""
    return {
        "subject": Text(escaped(entry.subject)),
        "role": Text(escaped(entry.role)),
        "state": _styled(state),
        "ends": Text(f"{entry.not_after:%Y-%m-%d}"),
        "days left": Text(str(max(days, 0)), soon),
        "key": Text(escaped(entry.key_type)),
        "serial": Text(escaped(entry.serial[:16])),
    }


def entry_table(entry: Entry, now: datetime) -> Table:
    """Return everything about one certificate."""
    certificate = entry.certificate
    state = entry.state_at(now)
    told = f" on {entry.changed_at:%Y-%m-%d %H:%M} UTC" if state in (REVOKED, SUPERSEDED) else ""
    why = f", reason: {entry.reason}" if entry.reason else ""
    listed = (
        ""
        if state != REVOKED
        else f", in CRL {entry.in_crl}"
        if entry.in_crl
        else ", in no CRL yet"
    )
    origin = "made by its owner" if entry.from_request else "made here"
    rows = {
        "subject": entry.subject,
        "role": entry.role,
        "names": ", ".join(entry.names) or "-",
        "state": f"{state}{told}{why}{listed}",
        "valid": f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to "
        f"{entry.not_after:%Y-%m-%d %H:%M} UTC",
        "key": f"{entry.key_type}, {origin}",
        "serial": entry.serial,
        "issuer": certificate.issuer.rfc4514_string(),
        "SHA-256": fingerprint(certificate),
    }
    return _facts(rows, _STYLES.get(state, ""))


def authority_object(authority: Authority, warnings: list[str]) -> dict[str, Any]:
    """Return what there is to say about the authority itself, ready for JSON."""
    crl = authority.inventory.newest_crl()
    leaves = [
        entry.state_at(authority.now)
        for entry in authority.inventory.entries()
        if entry.role in ROLES
    ]
    return {
        "directory": str(authority.directory),
        "root": _certificate_object(authority.root),
        "intermediate": _certificate_object(authority.intermediate)
        if authority.intermediate
        else None,
        "crl": {
            "number": crl.number,
            "issued_at": _iso(crl.issued_at),
            "ends": _iso(crl.next_update),
        }
        if crl
        else None,
        "certificates": {state: leaves.count(state) for state in STATES},
        "warnings": warnings,
    }


def authority_table(facts: dict[str, Any]) -> Table:
    """Return what `authority_object` says as a table."""
    rows = {"directory": facts["directory"]}
    for role in ("root", "intermediate"):
        if facts[role]:
            rows[role] = f"{facts[role]['subject']}, until {facts[role]['ends'][:10]}"
            rows[f"{role} SHA-256"] = facts[role]["sha256"]
    crl = facts["crl"]
    rows["CRL"] = f"number {crl['number']}, until {crl['ends'][:10]}" if crl else "none yet"
    rows["certificates"] = ", ".join(
        f"{count} {state}" for state, count in facts["certificates"].items()
    )
    return _facts(rows)


def _entry_object(entry: Entry, now: datetime) -> dict[str, Any]:
    return {
        "serial": entry.serial,
        "role": entry.role,
        "subject": entry.subject,
        "names": list(entry.names),
        "state": entry.state_at(now),
        "issued_at": _iso(entry.issued_at),
        "ends": _iso(entry.not_after),
        "changed_at": _iso(entry.changed_at),
        "reason": entry.reason,
        "in_crl": entry.in_crl,
        "key_type": entry.key_type,
        "from_request": entry.from_request,
        "sha256": fingerprint(entry.certificate),
    }


def _certificate_object(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "ends": _iso(certificate.not_valid_after_utc),
        "sha256": fingerprint(certificate),
    }


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _facts(rows: dict[str, str], state_style: str = "") -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(escaped(value), state_style if name == "state" else ""))
    return table


def _styled(state: str) -> Text:
    return Text(escaped(state), _STYLES.get(state, ""))
