"""Whether the authority in its directory still counts, or another one has taken its place, or that
of its intermediate.

The files may be those of before `ca replace-intermediate`: it was interrupted, or they come from a
backup, as those of an authority may that a new one has replaced. Then its key may be the thief's,
and nothing is signed with it any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.crls import crls_in, issuer_of, key_of
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.inventory import Inventory
from securemqtt_tools.pki.names import serial_text
from securemqtt_tools.pki.recovery import certificates_in, content_of, signed_crls

if TYPE_CHECKING:
    from securemqtt_tools.pki.authority import Authority

# What a broker had read, the CRLs of all its issuers: see broker/memory.py.
KEPT = "crl.newest*.pem"
_REMEDY = "run securemqtt ca replace-intermediate, which takes the root's key"
RESTORED = f"the authority comes from an older backup. Restore a newer one, or {_REMEDY}"


def way_back(kept: Path) -> str:
    """Say how to return to an authority that another one had replaced."""
    return (
        f"Restore the newer authority. To return to this one on purpose, run securemqtt ca "
        f"recover, end the broker, delete {kept}, then run securemqtt ca crl and securemqtt broker "
        f"init --force: whom the other one has certified is shut out, and whom this one had "
        f"revoked gets in unless ca recover has found it (docs/certificates.md)"
    )


def fault(authority: Authority, further: Iterable[Path] = ()) -> str:
    """Say why the authority does not count any more, and what to do; "" if it does.

    Its witnesses, and `further` ones, are files that may be newer than the inventory, if they are
    there: certificates with their chain, the root's CRL, what a broker had read. Raise FatalError
    when one cannot be read.
    """
    return replaced(authority, further) or former(authority, further)


def former(authority: Authority, further: Iterable[Path] = ()) -> str:
    """Say that a broker went by this authority's CRL and then by another one's: see `fault`."""
    own = key_of(authority.issuing_certificate)
    for path in (*authority.witnesses, *further):
        try:
            *before, last = map(issuer_of, crls_in(content_of(path)))
        except ValueError:  # none, or damaged, which others say
            continue
        if own in before and own != last:
            return (
                f"{path} shows that another authority has taken the place of this one, which comes "
                f"from a backup. {way_back(path)}"
            )
    return ""


def replaced(authority: Authority, further: Iterable[Path] = ()) -> str:
    """Say that the authority's intermediate was replaced: see `fault`."""
    inventory, root, intermediate = authority.inventory, authority.root, authority.intermediate
    if intermediate is None:
        return ""
    known = inventory.by_serial(serial_text(intermediate.serial_number))
    if known is not None and known.state == REVOKED:
        return (
            f"the intermediate was revoked on {known.changed_at:%Y-%m-%d}, and no other is in its "
            f"place: ca replace-intermediate was interrupted, or its files were put back. To end "
            f"it, {_REMEDY}"
        )
    for path in (*authority.witnesses, *further):
        if _is_revoked(root, intermediate, path) or strangers(inventory, root, intermediate, path):
            return (
                f"{path} shows that another intermediate has taken the place of this authority's, "
                f"whose key may be stolen: {RESTORED}"
            )
    return ""


def check(authority: Authority, further: Iterable[Path] = ()) -> None:
    """Raise FatalError when the authority does not count any more: see `fault`."""
    found = fault(authority, further)
    if found:
        raise FatalError(f"{found}. Nothing was changed")


def strangers(
    inventory: Inventory, root: x509.Certificate, intermediate: x509.Certificate, path: Path
) -> list[x509.Certificate]:
    """Return the intermediates in a file that the root has certified and the inventory does not
    know. Raise FatalError when the file cannot be read.
    """
    return [
        one
        for one in certificates_in(content_of(path))
        if one.public_key() != intermediate.public_key()  # else it is this one, renewed
        and _is_intermediate(one, root)
        and inventory.by_serial(serial_text(one.serial_number)) is None
    ]


def _is_intermediate(one: x509.Certificate, root: x509.Certificate) -> bool:
    """Return True for a CA below the root that is no broker's issuing key: that has its names."""
    try:
        one.verify_directly_issued_by(root)
        is_ca = one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    named = any(isinstance(each.value, x509.NameConstraints) for each in one.extensions)
    return is_ca and not named and one.subject != root.subject


def _is_revoked(root: x509.Certificate, intermediate: x509.Certificate, path: Path) -> bool:
    """Return True if a file holds a CRL of the root's that lists the intermediate."""
    return any(
        one.get_revoked_certificate_by_serial_number(intermediate.serial_number) is not None
        for one in signed_crls(content_of(path), root)
    )
