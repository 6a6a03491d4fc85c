"""What a broker goes by, and went by before: it takes up no CRL that goes back.

The newest CRL of each issuer that was in force here lies in its directory, as
crl.newest.NUMBER.pem: a backup that is copied over the directory has none of that name, so it
stays. Issuers are told apart by their keys. The last one is in force; the root's, which lists
intermediates, is among the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import layout, succession
from securemqtt_tools.pki.crls import crls_in, goes_back, issuer_of, key_of, number_of, serials
from securemqtt_tools.pki.files import explained, write_file
from securemqtt_tools.pki.recovery import certificates_in, content_of

WEBSOCKETS_CA = "ca.websockets.pem"
_VOUCHERS = (WEBSOCKETS_CA, "server.pem")  # which have the certificate of the CRL's issuer
_ROOTS = "ca.pem"
_AGAIN = "Run securemqtt broker reload; a broker elsewhere gets the authority's files again"


@dataclass(frozen=True)
class Memory:
    """The newest CRL of each issuer, and the files that it was read from."""

    crls: tuple[x509.CertificateRevocationList, ...] = ()
    files: tuple[Path, ...] = ()

    @classmethod
    def read(cls, directory: Path) -> Memory:
        """Read what is remembered in a directory. Raise FatalError when it is damaged."""
        found = [cls._of(path, content) for path, content in _contents(directory).items()]
        memory = cls()
        for one in sorted(found, key=lambda one: number_of(one.crls[-1]), reverse=True):
            memory = memory.merged(one)
        return memory

    @classmethod
    def _of(cls, path: Path, content: bytes) -> Memory:
        crls: list[x509.CertificateRevocationList] = []
        with suppress(ValueError):
            crls = crls_in(content)
        if not crls:
            raise FatalError(
                f"{path}, which says who was revoked, is damaged: have securemqtt ca recover look "
                f"through the directory that a backup has replaced, if any, then delete it"
            )
        return cls(tuple(crls), (path,))

    def merged(self, other: Memory) -> Memory:
        """Return what both know. Which issuer is in force is said by this one, unless the other
        knows all of its issuers, and more.
        """
        ours, theirs = self._by_issuer(), other._by_issuer()
        new = [one for one in theirs if one not in ours]
        order = [*theirs] if ours.keys() < theirs.keys() else [*new, *ours]
        known = {**theirs, **ours}
        for one in ours.keys() & theirs.keys():
            if not goes_back(ours[one], theirs[one]):
                known[one] = theirs[one]
        files = dict.fromkeys(self.files + other.files)
        return Memory(tuple(known[one] for one in order), tuple(files))

    def following(self, crl: x509.CertificateRevocationList, root: bytes = b"") -> Memory:
        """Return it with the CRL that is in force now, and with the root's, in PEM."""
        others = Memory()
        with suppress(ValueError):  # it is being copied, perhaps
            others = Memory(tuple(crls_in(root)))
        known = (one for one in others.merged(self).crls if issuer_of(one) != issuer_of(crl))
        return Memory((*known, crl), self.files)

    def fault(
        self,
        crl: x509.CertificateRevocationList,
        directory: Path,
        vouching: Iterable[x509.Certificate] | None = None,
    ) -> str:
        """Say why the CRL of a directory must not follow, and what to do; "" if it may. `vouching`
        has the certificate of its issuer, else files beside it have. Raise FatalError.
        """
        path, issuer = directory / layout.CRL, issuer_of(crl)
        before = self._by_issuer().get(issuer)
        kept = ", ".join(one.name for one in self.files) or "its memory"
        if before is not None and before is self.crls[-1]:
            if not goes_back(before, crl):
                return ""
            return (
                f"{path} holds CRL {number_of(crl)}, with {len(crl)} revoked, and comes from a "
                f"backup: the broker had CRL {number_of(before)}, with {len(before)}, which is in "
                f"{kept} beside it. {_AGAIN}; if it was these, run securemqtt ca recover there "
                f"first, with a copy of {kept} (docs/certificates.md)"
            )
        doubt = self._doubt(issuer, directory, vouching)
        if doubt or before is None:
            return f"{path} {doubt}" if doubt else ""
        return (
            f"{path} is of an authority that another one has replaced here, and comes from a "
            f"backup, as {kept} shows. {_AGAIN}. To return to that authority on purpose, end the "
            f"broker and delete {kept} (docs/certificates.md)"
        )

    def written(self, directory: Path) -> Memory:
        """Write it into a directory, where that is there, in the place of what it was read from;
        return it as it lies there. Raise FatalError.
        """
        if not self.crls or not directory.is_dir():
            return self
        path, content = directory / self.name, self.content
        with explained(f"write {path}, which says who was revoked"):
            if not path.is_file() or path.read_bytes() != content:
                write_file(path, content)
            for one in self.files:
                if one.parent == directory and one != path:
                    one.unlink(missing_ok=True)
        return Memory(self.crls, (path,))

    def knows(self, crl: x509.CertificateRevocationList) -> bool:
        """Return True if a CRL of the same issuer was in force here."""
        return issuer_of(crl) in self._by_issuer()

    def is_in_force(self, crl: x509.CertificateRevocationList) -> bool:
        """Return True if a CRL is of the issuer that is in force."""
        return bool(self.crls) and issuer_of(crl) == issuer_of(self.crls[-1])

    @property
    def name(self) -> str:
        """The name of its file."""
        return succession.KEPT.replace("*", f".{number_of(self.crls[-1])}")

    @property
    def content(self) -> bytes:
        """What is in its file."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.crls)

    def _by_issuer(self) -> dict[bytes, x509.CertificateRevocationList]:
        return {issuer_of(one): one for one in self.crls}

    def _doubt(
        self, issuer: bytes, directory: Path, vouching: Iterable[x509.Certificate] | None
    ) -> str:
        """Say what is against an issuer that is not the one in force; "" if nothing is. The root's
        CRL tells of intermediates by serial numbers, so their certificate has to be at hand.
        """
        roots = {key_of(one) for one in certificates_in(content_of(directory / _ROOTS))}
        crls = list(self.crls)
        with suppress(ValueError):
            crls += crls_in(content_of(directory / layout.ROOT_CRL))
        revoked = {
            serial
            for one in crls
            if issuer_of(one) in roots and issuer not in roots
            for serial in serials(one)
        }
        if not revoked:
            return ""
        if vouching is None:
            beside = (content_of(directory / one) for one in _VOUCHERS)
            vouching = [one for content in beside for one in certificates_in(content)]
        own = {one.serial_number for one in vouching if key_of(one) == issuer}
        if own & revoked:
            return f"is of an intermediate that was revoked, and comes from a backup. {_AGAIN}"
        if not own:
            return (
                f"came without {WEBSOCKETS_CA}, which shows that its intermediate was not revoked: "
                f"copy all files together from the authority's directory (docs/certificates.md)"
            )
        return ""


def _contents(directory: Path) -> dict[Path, bytes]:
    """Read the files, once more where another process has written a newer one meanwhile."""
    with explained(f"read {directory}"):
        while True:
            paths, found = sorted(directory.glob(succession.KEPT)), {}
            for path in paths:
                with suppress(FileNotFoundError):
                    found[path] = path.read_bytes()
            if paths == sorted(directory.glob(succession.KEPT)):
                return found
