"""The certificate authority: a directory with its certificates, its keys and its inventory.

Every certificate is recorded in the inventory before it is handed out. With an intermediate, only
that one's key is needed from day to day; the root's key file may be kept offline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from securemqtt_tools.cli import FatalError
from securemqtt_tools.naming import closest
from securemqtt_tools.pki import layout, recovery, succession
from securemqtt_tools.pki.clock import Clock, check_clock, system_clock
from securemqtt_tools.pki.entry import ISSUED, REVOKED, Entry
from securemqtt_tools.pki.files import OWNER_ONLY, write_file
from securemqtt_tools.pki.inventory import Inventory, already_issued
from securemqtt_tools.pki.issued import Issued
from securemqtt_tools.pki.keys import (
    Passphrase,
    PublicKey,
    check_public_key,
    generate_key,
    load_key,
)
from securemqtt_tools.pki.names import check_device_id, name_text, server_name, server_names
from securemqtt_tools.pki.profiles import (
    BACKDATE,
    CRL_DAYS,
    DEVICE,
    ISSUER_DAYS,
    LIFETIME_DAYS,
    REASONS,
    ROLES,
    SERVER,
    SHARED,
    Issuer,
    Revocation,
    leaf_certificate,
    revocation_list,
)
from securemqtt_tools.pki.request import SigningRequest
from securemqtt_tools.pki.tables import CrlRecord, Forgotten


class Authority:
    """A certificate authority on disk.

    An object belongs to one thread; many processes may open the directory.
    """

    def __init__(self, directory: Path, passphrase: Passphrase, clock: Clock) -> None:
        self.directory = directory
        self.inventory = Inventory(directory / layout.INVENTORY)
        self.root = layout.load_certificate(directory / layout.ROOT_CERTIFICATE)
        intermediate = directory / layout.INTERMEDIATE_CERTIFICATE
        self.intermediate = layout.load_certificate(intermediate) if intermediate.exists() else None
        self._passphrase = passphrase
        self._clock = clock
        self._issuer: Issuer | None = None
        self.witnesses: tuple[Path, ...] = (directory / layout.CRL,)
        # Asked for a role and a subject before anything is issued: raises FatalError to refuse.
        self.before_issuing: Callable[[str, str], None] = lambda *_: None
        # Told of each certificate as soon as it is recorded, before anything is done with it.
        self.on_issued: Callable[[Issued], None] = lambda _: None

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        name: str | None = None,
        passphrase: bytes | None,
        intermediate: bool = False,
        key_type: str = "p256",
        clock: Clock = system_clock,
    ) -> Authority:
        """Make an authority in `directory`, whole or not at all; `passphrase=None` leaves its keys
        unencrypted.

        Raise FatalError when there is one already, when the disk is full, and when this computer's
        clock is plainly wrong.
        """
        layout.create(directory, name, passphrase, intermediate, key_type, clock())
        return cls(directory, passphrase, clock)

    @classmethod
    def open(
        cls,
        directory: Path,
        passphrase: Passphrase = None,
        clock: Clock = system_clock,
        witnesses: Iterable[Path] = (),
    ) -> Authority:
        """Open the authority in `directory`. Its key is read, and a callable `passphrase` called,
        at first use. `witnesses` are further files of its making, which show when it comes from an
        older backup (recovery.py, succession.py).

        Raise FatalError when there is none, or when it is damaged.
        """
        layout.check_exists(directory)
        authority = cls(directory, passphrase, clock)
        authority.witnesses += tuple(witnesses)
        authority.inventory.check()
        return authority

    @property
    def now(self) -> datetime:
        """The time by the authority's clock."""
        return self._clock()

    @property
    def issuing_certificate(self) -> x509.Certificate:
        """The certificate that signs leaves and CRLs: the intermediate if there is one, else the
        root.
        """
        return self.intermediate or self.root

    def unlock(self) -> None:
        """Read the signing key now.

        Raise FatalError for a wrong passphrase, a missing key, a wrong clock.
        """
        self._require_issuer()

    def trust_anchors(self) -> list[x509.Certificate]:
        """Return the roots that peers should trust."""
        return [self.root]

    def issue_device(
        self,
        device_id: str,
        *,
        days: int | None = None,
        key_type: str = "p256",
        renew: bool = False,
    ) -> Issued:
        """Issue a client certificate, CN=`device_id`, with a new key. Five years, unless `days`
        says otherwise.

        With `renew`, a certificate that the device has already is superseded. Raise FatalError for
        a bad id, when there is a valid certificate and not `renew`, and for whatever keeps the key
        or the inventory from being used.
        """
        return self._issue(DEVICE, check_device_id(device_id), (), days, key_type, renew)

    def issue_shared(
        self, group: str, *, days: int | None = None, key_type: str = "p256", renew: bool = False
    ) -> Issued:
        """Issue a client certificate for the devices of a group to share, CN=`group`, with a new
        key. It is no device's: a broker lets each in by its user name and password, beside this.

        Raise FatalError as `issue_device` does.
        """
        return self._issue(SHARED, check_device_id(group), (), days, key_type, renew)

    def issue_server(
        self,
        names: Sequence[str],
        *,
        days: int | None = None,
        key_type: str = "p256",
        renew: bool = False,
    ) -> Issued:
        """Issue a server certificate for DNS names and IP addresses, with a new key. 825 days,
        unless `days` differs.

        The first name is its subject. Raise FatalError as `issue_device` does.
        """
        texts = [name_text(name) for name in server_names(names)]
        return self._issue(SERVER, texts[0], texts, days, key_type, renew)

    def certify_issuer(
        self, names: Sequence[str], *, root_key: Path | None = None, days: int = ISSUER_DAYS
    ) -> Issuer:
        """Make and certify a key that issues servers' certificates for `names` alone, so that these
        can be short-lived and renewed without the authority.

        It takes the root's key, which may lie in the file `root_key`. Raise FatalError.
        """
        return layout.certify_issuer(
            self.directory, names, root_key, self._passphrase, self._clock(), days
        )

    def sign_csr(
        self,
        request: bytes,
        *,
        role: str = DEVICE,
        device_id: str | None = None,
        names: Sequence[str] = (),
        days: int | None = None,
        renew: bool = False,
    ) -> Issued:
        """Issue a certificate for the key in a signing request (PEM or DER); what else the request
        asks for is ignored.

        The id is `device_id`, else the request's common name; a server's names are `names`, else
        those in the request. Raise FatalError as `issue_device` does, and for a request that does
        not prove possession of an acceptable key.
        """
        parsed = SigningRequest.parse(request)
        if role == DEVICE:
            subject = check_device_id(device_id or parsed.common_name or "")
            return self._issue(DEVICE, subject, (), days, parsed.public_key, renew)
        wanted = names or parsed.names or ([parsed.common_name] if parsed.common_name else [])
        texts = [name_text(name) for name in server_names(wanted)]
        return self._issue(SERVER, texts[0], texts, days, parsed.public_key, renew)

    def renew(
        self,
        subject: str,
        *,
        role: str | None = None,
        days: int | None = None,
        revoke_old: bool = False,
    ) -> Issued:
        """Issue anew for the same subject and names; the old certificate is superseded, or revoked
        with `revoke_old`.

        The key is new and of the same type, except where its owner made it: then the new
        certificate is for the same key. Raise FatalError when nothing was ever issued to
        `subject`, or when it names both a device and a server and `role` is None.
        """
        latest = self.find(subject, role)[-1]
        key = (
            check_public_key(latest.certificate.public_key())
            if latest.from_request
            else latest.key_type
        )
        return self._issue(
            latest.role, latest.subject, latest.names, days, key, renew=True, revoke_old=revoke_old
        )

    def revoke(
        self, subject_or_serial: str, *, reason: str = "unspecified", role: str | None = None
    ) -> list[Entry]:
        """Revoke every certificate of a subject that has not run out, or the one with a serial
        number; return those.

        Brokers learn of it from the next CRL. Raise FatalError when there is nothing to revoke.
        `reason` is one of REASONS.
        """
        if reason not in REASONS:
            raise FatalError(
                f"{reason!r} is no reason for a revocation: use one of {', '.join(REASONS)}"
            )
        now = self._clock()
        valid = [
            entry
            for entry in self.find(subject_or_serial, role)
            if entry.state_at(now) != REVOKED and entry.not_after > now
        ]
        changed = self.inventory.revoke([entry.serial for entry in valid], reason, now)
        if not changed:
            raise FatalError(
                f"{subject_or_serial} has no certificate that is still valid: there is nothing to "
                f"revoke"
            )
        return changed

    def crl_pem(self, *, days: int | None = None, above: int = 0) -> bytes:
        """Sign a new CRL, valid for `days` (default: ten years, or as long as its issuer), and
        return it in PEM.

        Its number is given once, also with several processes at once, and is above `above`. Raise
        FatalError.
        """
        issuer, now = self._require_issuer(), self._clock()
        next_update = self._end(days, CRL_DAYS, now)

        def sign(number: int, revoked: list[Entry | Forgotten]) -> bytes:
            lines = [
                Revocation(int(one.serial, 16), one.changed_at, x509.ReasonFlags(one.reason))
                for one in revoked
            ]
            return layout.crl_bytes(
                revocation_list(issuer, number, now - BACKDATE, next_update, lines)
            )

        return self.inventory.record_crl(sign, now, next_update, above)

    def check_knows(self, *paths: Path) -> None:
        """Raise FatalError when a file, or its own CRL, says what the inventory does not know: then
        that comes from a backup; or when the authority does not count any more.
        """
        succession.check(self, paths)
        for path in dict.fromkeys((self.directory / layout.CRL, *paths)):
            recovery.check_knows(self.inventory, self.issuing_certificate, path)

    def write_crl(self, path: Path, mode: int = OWNER_ONLY) -> CrlRecord:
        """Write the newest CRL to a file.

        Of several processes that do so at once, none puts an older CRL over a newer one. Raise
        FatalError when there is none yet, when the file cannot be written, and when it holds a CRL
        of this authority that the inventory does not know all of.
        """
        # its lock keeps the order in which CRLs are written that of their numbers
        with self.inventory.transaction():
            newest = self.inventory.newest_crl()
            if newest is None:
                raise FatalError("there is no CRL yet: run securemqtt ca crl")
            self.check_knows(path)
            write_file(path, newest.pem, mode)
        return newest

    @contextmanager
    def handing_out(self, issued: Issued) -> Iterator[None]:
        """Hold the inventory while files are written, so that of two processes that renew at once
        the later one wins.

        Raise FatalError when another process has replaced or revoked `issued` meanwhile.
        """
        with self.inventory.transaction():
            entry = self.inventory.by_serial(issued.serial)
            if entry is None or entry.state != ISSUED:
                raise FatalError(
                    f"another process has renewed or revoked {issued.subject} meanwhile: look at "
                    f"ca show"
                )
            yield

    def find(self, subject_or_serial: str, role: str | None = None) -> list[Entry]:
        """Return the leaf certificates of a subject, oldest first, or the one with a serial number.

        A serial number may be cut short to its first 8 digits or more. Raise FatalError when there
        is none.
        """
        if not subject_or_serial.isascii():  # not even text, perhaps, which SQLite would refuse
            raise self._unknown(subject_or_serial)
        entries = [
            one for one in self.inventory.entries(role, subject_or_serial) if one.role in ROLES
        ]
        roles = sorted({entry.role for entry in entries})
        if len(roles) > 1:
            raise FatalError(
                f"{subject_or_serial} is used as {' and as '.join(roles)}: say which with --role"
            )
        if not entries:
            single = self.inventory.by_serial(subject_or_serial)
            if single is None or single.role not in ROLES or role not in (None, single.role):
                raise self._unknown(subject_or_serial)
            return [single]
        return entries

    def _unknown(self, subject_or_serial: str) -> FatalError:
        meant = closest(subject_or_serial, (one.subject for one in self.inventory.entries()))
        return FatalError(
            f"nothing was ever issued to {subject_or_serial}"
            + (f" (did you mean {meant}?)" if meant else "")
            + ": securemqtt ca list shows what there is"
        )

    def check_vacant(self, role: str, subject: str) -> None:
        """Raise FatalError when a subject has a valid certificate that was not superseded."""
        for entry in self.inventory.entries(role, subject):
            if entry.state_at(self._clock()) == ISSUED:
                raise already_issued(entry)

    def _issue(
        self,
        role: str,
        subject: str,
        names: Sequence[str],
        days: int | None,
        key: PublicKey | str,
        renew: bool,
        revoke_old: bool = False,
    ) -> Issued:
        """Issue for a public key, or for a new private key when `key` names its type."""
        if not renew:  # said early, before any passphrase is asked for; `record` makes sure of it
            self.check_vacant(role, subject)
        self.inventory.check_name(role, subject)
        self.before_issuing(role, subject)
        issuer, now = self._require_issuer(), self._clock()
        private_key = generate_key(key) if isinstance(key, str) else None
        public_key = check_public_key(private_key.public_key() if private_key else key)
        not_before = max(now - BACKDATE, issuer.certificate.not_valid_before_utc)
        not_after = self._end(days, LIFETIME_DAYS[role], now)
        alternatives = [server_name(name) for name in names]
        certificate = leaf_certificate(
            role, subject, alternatives, public_key, not_before, not_after, issuer
        )
        entry = Entry.of(
            certificate, public_key, role, subject, now, tuple(names), private_key is None
        )
        self.inventory.record(entry, replacing=renew, revoke_old=revoke_old)
        chain = (certificate,) if self.intermediate is None else (certificate, self.intermediate)
        issued = Issued(role, subject, entry.names, entry.serial, chain, private_key)
        try:
            self.on_issued(issued)
        except FatalError as error:
            raise issued.not_handed_out(error) from error
        return issued

    def _require_issuer(self) -> Issuer:
        succession.check(self)
        check_clock(self._clock(), self.issuing_certificate)
        if self._issuer is None:
            name = layout.INTERMEDIATE_KEY if self.intermediate else layout.ROOT_KEY
            key = load_key(self.directory / name, self.issuing_certificate, self._passphrase)
            self._issuer = Issuer(self.issuing_certificate, key)
        return self._issuer

    def _end(self, days: int | None, default_days: int, now: datetime) -> datetime:
        """Return the end of a validity: of `days`, else of the default, or the issuer's own end if
        that comes first.
        """
        last = self.issuing_certificate.not_valid_after_utc
        if days is None:
            return min(now + timedelta(days=default_days), last)
        if days < 1 or days > (last - now).days:
            raise FatalError(
                f"{days} days is out of range: from 1 to {(last - now).days}, when the "
                f"authority's own certificate ends"
            )
        return now + timedelta(days=days)
