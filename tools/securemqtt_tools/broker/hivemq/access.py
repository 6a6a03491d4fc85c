"""The rules, the revocations and the networks as the extension reads them: one file, one word and
what it is about on each line. Access.java is the other end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from securemqtt.protocol.topics import PREFIX
from securemqtt_tools.broker.config import CRL, BrokerConfig
from securemqtt_tools.broker.networks import Network
from securemqtt_tools.broker.rules import own_filter
from securemqtt_tools.broker.rules_file import read_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.crls import serials
from securemqtt_tools.pki.files import explained, write_file
from securemqtt_tools.pki.names import check_device_id

_HEAD = re.compile(r"securemqtt-access 1\nnumber (\d+)\n")


def write_access(path: Path, config: BrokerConfig) -> int:
    """Write the file where what it says has changed; return the number of its changes, which the
    extension tells when it has taken them up. Raise FatalError.
    """
    body = "\n".join(_lines(config, config.crl())) + "\n"
    with explained(f"read {path}"):
        there = path.read_text() if path.exists() else ""
    head = _HEAD.match(there)
    number = int(head[1]) if head else 0
    if head is not None and there[head.end() :] == body:
        return number
    text = f"securemqtt-access 1\nnumber {number + 1}\n{body}"
    write_file(path, text.encode())
    return number + 1


def _lines(config: BrokerConfig, crl: x509.CertificateRevocationList) -> Iterator[str]:
    yield f"prefix {PREFIX}"
    # What another has issued is worth nothing, as an intermediate that was replaced has. By the
    # key, since two may have one name.
    if not (issuer := _issuer_key(crl)):
        raise FatalError(f"{config.directory / CRL} is not of securemqtt: run securemqtt ca crl")
    yield f"issuer {issuer.hex()}"
    for serial in sorted(serials(crl)):
        yield f"revoked {serial:x}"
    rules = read_rules(config.directory)
    for identity in sorted(config.roles.keys() | rules.identities() | rules.bound()):
        yield f"identity {check_device_id(identity)}"
        for network in rules.networks_of(identity):
            yield f"network {network_bits(network)}"
        access = rules.access(identity, config.roles.get(identity))
        for word, filters in (
            ("deny", access.denied),
            ("read", access.read),
            ("write", access.write),
        ):
            yield from (f"{word} {one}" for one in filters if one != own_filter(identity))
    yield "end"


def network_bits(network: Network) -> str:
    """Return a network as the bits that its addresses begin with."""
    whole = f"{int(network.network_address):0{network.max_prefixlen}b}"
    return f"{network.version}:{whole[: network.prefixlen]}"


def _issuer_key(crl: x509.CertificateRevocationList) -> bytes:
    """Return the extension by which the CRL, and each certificate that counts, names the key that
    has signed it (RFC 5280 §4.2.1.1), in DER as Java compares it; b"" where there is none.
    """
    try:
        found = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):  # the latter: they cannot be read
        return b""
    return found.value.public_bytes()
