"""The tables of the inventory: how they are made and brought up to date, and their rows.

Every function works on a connection of the caller's, within the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from securemqtt_tools.pki.entry import COLUMNS, REVOKED, Entry, from_seconds, to_seconds
from securemqtt_tools.pki.profiles import SHARED

VERSION = 2
# Once it has a certificate that devices share: a version of securemqtt that knows none would leave
# it out of its CRL.
VERSION_WITH_SHARED = 3
VERSIONS = (VERSION, VERSION_WITH_SHARED)
_TABLES = """
CREATE TABLE certificate (
    serial TEXT PRIMARY KEY,              -- hex, as `serial_text` gives it
    role TEXT NOT NULL,                   -- root, intermediate, issuer, server, device, shared
    subject TEXT NOT NULL,                -- a device's id, a server's first name, a group
    names TEXT NOT NULL,                  -- JSON: the subject alternative names
    key_type TEXT NOT NULL,
    key_fingerprint TEXT NOT NULL,        -- SHA-256 of the SubjectPublicKeyInfo
    from_request INTEGER NOT NULL,        -- 1: its owner made the private key, which was never here
    issued_at INTEGER NOT NULL,           -- this and the other times: seconds since 1970, UTC
    not_after INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('issued', 'superseded', 'revoked')),
    changed_at INTEGER NOT NULL,
    reason TEXT,                          -- of a revocation, as RFC 5280 names it
    in_crl INTEGER,                       -- the number of the first CRL that lists it
    der BLOB NOT NULL
);
CREATE INDEX certificate_subject ON certificate (role, subject);
CREATE INDEX certificate_key ON certificate (key_fingerprint);
CREATE UNIQUE INDEX certificate_current ON certificate (role, subject) WHERE state = 'issued';
CREATE TABLE crl (
    number INTEGER PRIMARY KEY,
    issued_at INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    pem BLOB NOT NULL
);
"""
# Since version 2: what a CRL of our own says, or a broker's trust, about certificates that are not
# in the table. An inventory that comes from a backup has forgotten them.
_FORGOTTEN = (
    """CREATE TABLE forgotten_certificate (
    serial TEXT PRIMARY KEY,
    changed_at INTEGER NOT NULL,          -- when it was revoked
    reason TEXT NOT NULL
)""",
    "CREATE TABLE forgotten_id (subject TEXT PRIMARY KEY)",
)


@dataclass(frozen=True)
class CrlRecord:
    """The newest CRL."""

    number: int
    issued_at: datetime
    next_update: datetime
    pem: bytes


@dataclass(frozen=True)
class Forgotten:
    """A revocation of a certificate that the inventory does not know."""

    serial: str
    changed_at: datetime
    reason: str


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file, in a transaction of its own."""
    schema = f"{_TABLES} {'; '.join(_FORGOTTEN)}; PRAGMA user_version = {VERSION};"
    connection.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")


def version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables that are there; VERSIONS are known here."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make what tables of version 1 lack, if they are of that version."""
    if version(connection) == 1:
        for statement in (*_FORGOTTEN, f"PRAGMA user_version = {VERSION}"):
            connection.execute(statement)


def select(
    connection: sqlite3.Connection, condition: str, parameters: Sequence[object]
) -> list[Entry]:
    """Return the certificates that meet an SQL condition, oldest first."""
    query = f"SELECT {COLUMNS} FROM certificate WHERE {condition} ORDER BY issued_at, rowid"  # noqa: S608  (constants)
    return [Entry.from_row(row) for row in connection.execute(query, parameters)]


def insert(connection: sqlite3.Connection, entry: Entry) -> None:
    """Add a certificate."""
    row = entry.to_row()
    places = ", ".join("?" for _ in row)
    connection.execute(f"INSERT INTO certificate ({COLUMNS}) VALUES ({places})", row)  # noqa: S608  (constants)
    if entry.role == SHARED:
        connection.execute(f"PRAGMA user_version = {VERSION_WITH_SHARED}")


def forgotten(connection: sqlite3.Connection) -> list[Forgotten]:
    """Return the revocations of certificates that are unknown."""
    query = "SELECT serial, changed_at, reason FROM forgotten_certificate ORDER BY serial"
    return [
        Forgotten(serial, from_seconds(changed_at), reason)
        for serial, changed_at, reason in connection.execute(query)
    ]


def change(
    connection: sqlite3.Connection, serial: str, state: str, now: datetime, reason: str | None
) -> None:
    """Set a certificate's state, since `now`; `reason` is that of a revocation."""
    change = "UPDATE certificate SET state = ?, changed_at = ?, reason = ? WHERE serial = ?"
    connection.execute(change, (state, to_seconds(now), reason, serial))


def newest_crl(connection: sqlite3.Connection) -> CrlRecord | None:
    """Return the CRL with the highest number; None if there is none."""
    query = "SELECT number, issued_at, next_update, pem FROM crl ORDER BY number DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    return CrlRecord(row[0], from_seconds(row[1]), from_seconds(row[2]), row[3]) if row else None


def replace_crl(connection: sqlite3.Connection, record: CrlRecord) -> None:
    """Keep a CRL in place of those before, and note at each revoked certificate that has none yet
    that this is the first to list it.
    """
    issued_at, next_update = to_seconds(record.issued_at), to_seconds(record.next_update)
    row = (record.number, issued_at, next_update, record.pem)
    connection.execute("INSERT INTO crl VALUES (?, ?, ?, ?)", row)
    connection.execute("DELETE FROM crl WHERE number < ?", (record.number,))
    in_crl = "UPDATE certificate SET in_crl = ? WHERE state = ? AND in_crl IS NULL"
    connection.execute(in_crl, (record.number, REVOKED))
