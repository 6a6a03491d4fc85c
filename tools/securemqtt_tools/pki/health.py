"""What an operator should know before it hurts: a CRL that runs out, revocations in no CRL, a CA
near its end.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509

from securemqtt_tools.pki import recovery, succession
from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.crls import issuer_of, key_of
from securemqtt_tools.pki.entry import REVOKED
from securemqtt_tools.pki.tables import CrlRecord

_CRL_NOTICE = timedelta(days=60)
_AUTHORITY_NOTICE = timedelta(days=365)


def warnings(authority: Authority) -> list[str]:
    """Return one line for each thing that needs attention soon, with what to do; also what of its
    witnesses the inventory does not know.
    """
    now, newest = authority.now, authority.inventory.newest_crl()
    found = [succession.fault(authority)]
    unknown: dict[str, str] = {}  # each once, however many files have it
    for path in authority.witnesses:
        what = recovery.forgotten(authority.inventory, authority.issuing_certificate, path)
        unknown.setdefault(what.removeprefix(str(path)), what)
    found += [
        f"{what} of which the inventory knows nothing: it was restored from an older backup; run "
        f"ca recover"
        for what in filter(None, unknown.values())
    ]
    found += [_crl_warning(authority, newest)] if newest else []
    unpublished = [
        one for one in authority.inventory.entries() if one.state == REVOKED and one.in_crl is None
    ]
    if any(one.not_after > now for one in unpublished):
        found.append(
            f"revoked but in no CRL yet, so brokers still take them: {len(unpublished)}; run ca crl"
        )
    end = authority.issuing_certificate.not_valid_after_utc
    if end - now < _AUTHORITY_NOTICE:
        remedy = (
            "run ca renew-intermediate" if authority.intermediate else "plan for a new authority"
        )
        found.append(
            f"the authority's certificate ends on {end:%Y-%m-%d}, and with it all it has issued: "
            f"{remedy}"
        )
    return [line for line in found if line]


def crl_fault(authority: Authority) -> str:
    """Say why no broker shall have the newest CRL, and what one does that has it; "" where nothing
    is wrong with it, or where there is none.
    """
    newest = authority.inventory.newest_crl()
    if newest is None:
        return ""
    crl = x509.load_pem_x509_crl(newest.pem)
    if issuer_of(crl) != key_of(authority.issuing_certificate):
        return (
            f"CRL {newest.number} is of an intermediate that was replaced: a broker that has it "
            f"takes what that one has issued, and refuses all of the new one's"
        )
    if crl.last_update_utc > authority.now:
        return (
            f"CRL {newest.number} was signed by a clock that was ahead: it begins on "
            f"{crl.last_update_utc:%Y-%m-%d %H:%M} UTC, and it is {authority.now:%Y-%m-%d %H:%M}: "
            f"a broker that has it refuses every device"
        )
    return ""


def _crl_warning(authority: Authority, newest: CrlRecord) -> str:
    fault = crl_fault(authority)
    if fault:
        return f"{fault}; run ca crl and hand it on"
    now, end = authority.now, newest.next_update
    if end <= now:
        return (
            f"the CRL ran out on {end:%Y-%m-%d}: a broker that has it refuses every device; "
            f"run ca crl and hand it on"
        )
    notice = min(_CRL_NOTICE, (end - newest.issued_at) / 3)
    if end - now < notice and end < authority.issuing_certificate.not_valid_after_utc:
        return (
            f"the CRL runs out on {end:%Y-%m-%d}; after that a broker refuses every device: "
            f"run ca crl and hand it on"
        )
    return ""
