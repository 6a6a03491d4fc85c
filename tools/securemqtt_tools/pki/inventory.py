"""The inventory: what was issued, to whom, until when, and what became of it. One SQLite file for
several processes.

A certificate is recorded, durably, before anybody is handed it: the commit has reached the disk
(journal, file and directory) when `record` returns. Each operation opens the file anew, so nothing
is shared between threads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from cryptography import x509

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import tables
from securemqtt_tools.pki.entry import ISSUED, REVOKED, SUPERSEDED, Entry, to_seconds
from securemqtt_tools.pki.files import explained
from securemqtt_tools.pki.profiles import DEVICE, ROLES, SHARED
from securemqtt_tools.pki.tables import CrlRecord, Forgotten

_SHORTEST_PREFIX = 8


class Inventory:
    """The file.

    Every method that finds it locked waits for `lock_timeout_s` at most, then raises FatalError.
    """

    def __init__(self, path: Path, lock_timeout_s: float = 20.0) -> None:
        self.path = path
        self._lock_timeout_s = lock_timeout_s

    def initialise(self) -> None:
        """Make the file, empty and owner-only."""
        with explained(f"make {self.path}"):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with self._connection() as connection:
            tables.create(connection)

    def check(self) -> None:
        """Bring an older inventory up to date.

        Raise FatalError unless the file is an inventory of a version that this program knows.
        """
        with self._connection() as connection:
            version = tables.version(connection)
        if version == 1:
            with self.transaction() as connection:
                tables.bring_up_to_date(connection)  # unless another process was faster
                version = tables.version(connection)
        if version not in tables.VERSIONS:
            raise FatalError(
                f"{self.path} is of version {version}, this program knows "
                f"{tables.VERSION_WITH_SHARED}: update securemqtt"
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock for a block; commit durably at its end, roll back when it raises."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def record(self, entry: Entry, replacing: bool = False, revoke_old: bool = False) -> None:
        """Add a certificate; with `replacing`, the subject's current one becomes superseded in the
        same step.

        With `revoke_old` as well, all its unexpired ones become revoked, for the reason
        "superseded".

        Raise FatalError when the subject has a valid certificate and `replacing` is false, and for
        another's key or name.
        """
        now = entry.issued_at
        with self.transaction() as connection:
            _check_name(connection, entry.role, entry.subject)
            _check_key(connection, entry)
            unrevoked = "role = ? AND subject = ? AND state != ?"
            for old in tables.select(connection, unrevoked, (entry.role, entry.subject, REVOKED)):
                if old.state_at(now) == ISSUED and not replacing:
                    raise already_issued(old)
                if revoke_old and old.not_after > now:
                    tables.change(
                        connection, old.serial, REVOKED, now, x509.ReasonFlags.superseded.value
                    )
                elif old.state == ISSUED:
                    tables.change(connection, old.serial, SUPERSEDED, now, None)
            tables.insert(connection, entry)

    def entries(self, role: str | None = None, subject: str | None = None) -> list[Entry]:
        """Return the certificates of a role and a subject (None: of any), oldest first."""
        condition = "role = coalesce(?, role) AND subject = coalesce(?, subject)"
        with self._connection() as connection:
            return tables.select(connection, condition, (role, subject))

    def check_name(self, role: str, subject: str) -> None:
        """Raise FatalError for the id of a device that is the name of a shared certificate, or the
        other way round: both are a client's, by the same name. `record` makes sure of it.
        """
        with self._connection() as connection:
            _check_name(connection, role, subject)

    def by_serial(self, text: str) -> Entry | None:
        """Return the certificate whose serial number in hex is, or alone begins with, `text` (8
        digits or more).
        """
        digits = text.replace(":", "").upper()
        if len(digits) < _SHORTEST_PREFIX:
            return None
        with self._connection() as connection:
            found = tables.select(connection, "substr(serial, 1, ?) = ?", (len(digits), digits))
        return found[0] if len(found) == 1 else None

    def revoke(self, serials: Sequence[str], reason: str, now: datetime) -> list[Entry]:
        """Mark certificates as revoked, those that are not yet; return the ones that changed."""
        changed = []
        with self.transaction() as connection:
            for serial in serials:
                for entry in tables.select(
                    connection, "serial = ? AND state != ?", (serial, REVOKED)
                ):
                    tables.change(connection, serial, REVOKED, now, reason)
                    changed.append(replace(entry, state=REVOKED, changed_at=now, reason=reason))
        return changed

    def record_crl(
        self,
        sign: Callable[[int, list[Entry | Forgotten]], bytes],
        now: datetime,
        next_update: datetime,
        above: int = 0,
    ) -> bytes:
        """Record the CRL that `sign(number, what is revoked)` makes, and return it.

        Its number is above the last and `above`, and the time of day as digits where that is more:
        so an inventory that comes from a backup does not give a number twice. A certificate stays
        listed for good, longer than it must be (RFC 5280 §3.3): so a CRL that lists less than
        another of its authority's is an older one, or of an older inventory.
        """
        with self.transaction() as connection:
            last = tables.newest_crl(connection)
            number = max(last.number + 1 if last else 1, above + 1, int(f"{now:%Y%m%d%H%M%S}"))
            known = tables.select(connection, f"state = ? AND role IN {ROLES}", (REVOKED,))
            pem = sign(number, [*known, *tables.forgotten(connection)])
            tables.replace_crl(connection, CrlRecord(number, now, next_update, pem))
        return pem

    def replace_intermediate(
        self, entry: Entry, number: int, unknown: Iterable[Entry] = ()
    ) -> None:
        """Add another intermediate; the others, with those that were `unknown`, become revoked, as
        in the root's CRL of this number, and what they have issued superseded.
        """
        reason, now = x509.ReasonFlags.ca_compromise.value, entry.issued_at
        with self.transaction() as connection:
            for one in unknown:
                tables.insert(connection, one)
            for old in tables.select(connection, "role = ? AND state != ?", (entry.role, REVOKED)):
                tables.change(connection, old.serial, REVOKED, now, reason)
                connection.execute(
                    "UPDATE certificate SET in_crl = ? WHERE serial = ?", (number, old.serial)
                )
            for old in tables.select(connection, f"role IN {ROLES} AND state = ?", (ISSUED,)):
                tables.change(connection, old.serial, SUPERSEDED, now, None)
            tables.insert(connection, entry)

    def newest_crl(self) -> CrlRecord | None:
        """Return the CRL with the highest number, or None when there is none yet."""
        with self._connection() as connection:
            return tables.newest_crl(connection)

    def revoked_serials(self) -> set[str]:
        """Return the serial numbers of all that was ever revoked, known here or forgotten."""
        with self._connection() as connection:
            known = connection.execute("SELECT serial FROM certificate WHERE state = ?", (REVOKED,))
            return {serial for (serial,) in known} | {
                one.serial for one in tables.forgotten(connection)
            }

    def forgotten(self) -> tuple[list[Forgotten], set[str]]:
        """Return the revocations of certificates that are unknown, and the ids that such had."""
        with self._connection() as connection:
            ids = connection.execute("SELECT subject FROM forgotten_id")
            return tables.forgotten(connection), {subject for (subject,) in ids}

    def take_over(self, revocations: Iterable[Forgotten], ids: Iterable[str]) -> int:
        """Record revocations that are unknown here, and ids that are shut out; return how many
        revocations are new.
        """
        count = 0
        with self.transaction() as connection:
            for one in revocations:
                known = tables.select(connection, "serial = ?", (one.serial,))
                if known and known[0].state != REVOKED:
                    tables.change(connection, one.serial, REVOKED, one.changed_at, one.reason)
                    count += 1
                elif not known:
                    count += connection.execute(
                        "INSERT OR IGNORE INTO forgotten_certificate VALUES (?, ?, ?)",
                        (one.serial, to_seconds(one.changed_at), one.reason),
                    ).rowcount
            for subject in ids:
                if not tables.select(connection, "subject = ? AND state = ?", (subject, REVOKED)):
                    connection.execute("INSERT OR IGNORE INTO forgotten_id VALUES (?)", (subject,))
        return count

    def adopt(self, entry: Entry) -> bool:
        """Add a certificate that was issued earlier and is unknown here; return False if it is
        known.

        It is revoked if it was, the subject's current one if no later one is, else superseded.
        """
        with self.transaction() as connection:
            if tables.select(connection, "serial = ?", (entry.serial,)):
                return False
            current = tables.select(
                connection,
                "role = ? AND subject = ? AND state = ?",
                (entry.role, entry.subject, ISSUED),
            )
            revoked = [one for one in tables.forgotten(connection) if one.serial == entry.serial]
            if revoked:
                entry = replace(
                    entry, state=REVOKED, changed_at=revoked[0].changed_at, reason=revoked[0].reason
                )
            elif current and current[0].issued_at > entry.issued_at:
                entry = replace(entry, state=SUPERSEDED, changed_at=current[0].issued_at)
            elif current:
                tables.change(connection, current[0].serial, SUPERSEDED, entry.issued_at, None)
            tables.insert(connection, entry)
            connection.execute(
                "DELETE FROM forgotten_certificate WHERE serial = ?", (entry.serial,)
            )
            if revoked and not tables.forgotten(connection):
                connection.execute("DELETE FROM forgotten_id WHERE subject = ?", (entry.subject,))
        return True

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # rw: never make an empty inventory by mistake
        address = f"file:{quote(str(self.path.absolute()))}?mode=rw"
        try:
            connecting = sqlite3.connect(
                address, timeout=self._lock_timeout_s, isolation_level=None, uri=True
            )
            with closing(connecting) as connection:
                # EXTRA also syncs the directory when the journal goes: a commit that returned
                # survives a power cut.
                connection.execute("PRAGMA synchronous = EXTRA")
                yield connection
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> FatalError:
        text = str(error)
        if "locked" in text:
            waited = f"{self.path} was locked by another process for {self._lock_timeout_s:g} s"
            return FatalError(f"{waited}: try again when that is done")
        if "full" in text or "disk I/O" in text:
            return FatalError(
                f"{self.path} cannot be written ({text}): free some space, or check the disk's "
                f"health, and try again"
            )
        if "readonly" in text or "unable to open" in text:
            return FatalError(
                f"{self.path} cannot be opened for writing: check who owns it and its directory"
            )
        return FatalError(
            f"{self.path} is damaged or no inventory ({text}): restore it from a backup"
        )


def already_issued(entry: Entry) -> FatalError:
    """Return the error for a subject that has a valid certificate."""
    return FatalError(
        f"{entry.role} {entry.subject} has a certificate until {entry.not_after:%Y-%m-%d} (serial "
        f"{entry.serial}): "
        "to replace it, use ca renew (or the option --renew)"
    )


def _check_name(connection: sqlite3.Connection, role: str, subject: str) -> None:
    """Refuse one name for a device and for a certificate that several devices share."""

    def is_known(as_role: str) -> bool:
        return bool(tables.select(connection, "role = ? AND subject = ?", (as_role, subject)))

    if role == DEVICE and is_known(SHARED):
        raise FatalError(
            f"{subject} is the name of a certificate that several devices share: choose another id"
        )
    if role == SHARED and is_known(DEVICE):
        raise FatalError(f"{subject} is the id of a device: choose another name for the group")


def _check_key(connection: sqlite3.Connection, entry: Entry) -> None:
    """Refuse a key that is another's (ETSI EN 303 645, 5.4-4: unique per device), and one that was
    revoked.
    """
    for other in tables.select(connection, "key_fingerprint = ?", (entry.key_fingerprint,)):
        if (other.role, other.subject) != (entry.role, entry.subject):
            owner = f"{other.role} {other.subject}"
            raise FatalError(
                f"this key belongs to {owner} already: {entry.subject} needs one of its own"
            )
        if other.state == REVOKED and other.reason != x509.ReasonFlags.superseded.value:
            raise FatalError(
                f"this key of {entry.subject} was revoked ({other.reason}): make a new one"
            )
