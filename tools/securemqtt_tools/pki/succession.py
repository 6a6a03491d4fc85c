"""Whether the intermediate in the authority's directory still counts, or another one has taken its
place.

The files may be those of before `ca replace-intermediate`: it was interrupted, or they come from a
backup. Then the intermediate may be the thief's, and nothing is signed with it any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.inventory import Inventory
from securemqtt_tools.pki.keys import check_public_key
from securemqtt_tools.pki.names import serial_text
from securemqtt_tools.pki.recovery import certificates_in, content_of, number_of

if TYPE_CHECKING:
    from securemqtt_tools.pki.authority import Authority

# What a running broker had read when an older one took its place, from a backup.
KEPT_CRL = "crl.newest.pem"
_REMEDY = "run securemqtt ca replace-intermediate, which takes the root's key"


def fault(authority: Authority, further: Iterable[Path] = ()) -> str:
    """Say why the authority's intermediate does not count any more, and what to do; "" if it does.

    Its witnesses, and `further` ones, are files of the root's making that may be newer than the
    inventory, if they are there: certificates with their chain, the root's CRL. Raise FatalError
    when one cannot be read.
    """
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
    newest = inventory.newest_crl()
    for path in (*authority.witnesses, *further):
        if (
            _is_revoked(root, intermediate, path)
            or strangers(inventory, root, intermediate, path)
            or (newest is not None and _is_anothers(intermediate, newest.number, path))
        ):
            return (
                f"{path} shows that another intermediate has taken the place of this authority's, "
                f"whose key may be stolen: the authority comes from an older backup. Restore a "
                f"newer one, or {_REMEDY}"
            )
    return ""


def check(authority: Authority, further: Iterable[Path] = ()) -> None:
    """Raise FatalError when the authority's intermediate does not count any more: see `fault`."""
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


def _is_anothers(intermediate: x509.Certificate, number: int, path: Path) -> bool:
    """Return True if a file is what a running broker has kept of its CRL, another one has signed
    that, and later than `number`.
    """
    if path.name != KEPT_CRL:  # any other may be of an authority that was there before
        return False
    try:
        crl = x509.load_pem_x509_crl(content_of(path))
    except (ValueError, UnsupportedAlgorithm):
        return False
    return crl.issuer != intermediate.subject and number_of(crl) > number


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
    try:
        crl = x509.load_pem_x509_crl(content_of(path))
        if not crl.is_signature_valid(check_public_key(root.public_key())):
            return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return crl.get_revoked_certificate_by_serial_number(intermediate.serial_number) is not None
