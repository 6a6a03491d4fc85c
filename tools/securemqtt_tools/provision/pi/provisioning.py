"""The bundle for a Raspberry Pi: put into a directory here, or sent to the Pi through ssh.

The private key is made in memory; on its way to a Pi it is in ssh's standard input only. It ends up
owner-only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from securemqtt_tools.provision.bundle import (
    CONFIG,
    LOGIN_SUFFIX,
    PI_NAMES,
    Settings,
    anchor_files,
    config_text,
    identity_files,
    named_files,
    parsed_object,
    password_files,
)
from securemqtt_tools.provision.identity import Held, Source, reason_for, usable_chain
from securemqtt_tools.provision.steps import Steps

CLAIM = "claim.json"
# What may be removed once config.json names it no more; nothing of the user's own looks like this.
_OURS = ("ca*.pem", "device*.pem", "device*.key", f"device*{LOGIN_SUFFIX}", CLAIM)


@dataclass(frozen=True)
class Found:
    """What is in a bundle's directory: public files whole, of each private key its public half, and
    of a password's file the SHA-256.

    The half is b"" where it cannot be had (an encrypted key), and None for what is no key.
    `is_open`: others may look into the directory, and `put` ends that.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    public_keys: dict[str, bytes | None] = field(default_factory=dict)
    is_open: bool = False
    passwords: dict[str, str] = field(default_factory=dict)


class Place(Protocol):
    """A directory for a bundle, here or on a Pi."""

    title: str

    def look(self) -> Found:
        """Return what is there. Raise FatalError when that cannot be known, or no bundle could be
        there.
        """

    def put(self, files: Mapping[str, bytes], removes: Iterable[str]) -> None:
        """Write files, owner-only, each whole or not at all, in their order; then remove others.

        Raise FatalError.
        """


@dataclass(frozen=True)
class PiOrder:
    """What is to be done."""

    settings: Settings
    authority: Source
    place: Place
    key_passphrase: bytes | None = field(default=None, repr=False)
    certificate_days: int | None = None
    renew: bool = False
    dry_run: bool = False
    roots: tuple[x509.Certificate, ...] = ()  # to be trusted beside the authority's


def provision_pi(order: PiOrder, steps: Steps) -> bool:
    """Put a bundle into its place, and return True if there was anything to change. Raises
    FatalError.

    With `dry_run` it is said and not done.
    """
    authority, settings, place = order.authority, order.settings, order.place
    with steps.step("Contents") as step:
        found = place.look()
        held = _held(found)
        if order.renew:
            reason: str | None = "to be renewed"
        else:
            reason = reason_for(held, authority, settings)
        step.note = f"{place.title}, certificate: {reason or 'good'}"
    anchors = anchor_files([*authority.trust_anchors(), *order.roots], held.hashes, der=False)
    current = held.config if isinstance(held.config.get("key"), str) else PI_NAMES
    password = password_files(settings, held.config, held.hashes)
    names: dict[str, Any] = {
        **anchors.names,
        **password.names,
        "certificate": current.get("certificate"),
        "key": current["key"],
    }
    files = {
        name: content
        for name, content in anchors.content.items()
        if found.files.get(name) != content
    }
    files |= {
        name: content for name, content in password.content.items() if name not in held.hashes
    }
    clock_floor = int(authority.now.timestamp())
    config = config_text(settings, names, held.config, clock_floor)
    changed = bool(reason or files or config or found.is_open)
    if not changed or order.dry_run:
        if found.is_open:
            steps.say(f"  would make {place.title} owner-only")
        if reason:
            do = "import the" if settings.made_elsewhere else "issue a"
            steps.say(f"  would {do} certificate ({reason}) and write it, with its private key")
        for name in [*files, *([CONFIG] if reason or config else [])]:
            steps.say(f"  would write {name}")
        return changed
    with steps.step("Bundle", quiet=True) as step:
        if reason:
            place.put({CLAIM: json.dumps({"client_id": settings.device_id}).encode()}, ())
            issued = authority.issue_device(
                settings.device_id, days=order.certificate_days, renew=True
            )
            step.note = (
                f"certificate {'imported' if settings.made_elsewhere else 'issued'}, until "
                f"{issued.certificate.not_valid_after_utc:%Y-%m-%d}"
            )
            private = identity_files(
                issued, held.hashes, der=False, key_passphrase=order.key_passphrase
            )
            del issued  # with it goes the key: what is left of it here is what is sent
            names.update(private.names)
            files.update(private.content)
            del private
            config = config_text(settings, names, held.config, clock_floor)
        if config is not None:
            files[CONFIG] = config  # last: it names the others
        place.put(files, _obsolete(found, names))
    return True


def _obsolete(found: Found, names: Mapping[str, Any]) -> list[str]:
    named = named_files(names)
    there = (*found.files, *found.public_keys, *found.passwords)
    old = [name for name in there if name not in named]
    return [
        CLAIM,
        *(
            name
            for name in old
            if any(fnmatch(name, pattern) for pattern in _OURS) and name != CLAIM
        ),
    ]


def _held(found: Found) -> Held:
    config = parsed_object(found.files.get(CONFIG))
    claimed_by = parsed_object(found.files.get(CLAIM)).get("client_id")
    names = config if isinstance(config.get("key"), str) else PI_NAMES
    listed = named_files({"certificate": names.get("certificate")})
    chain = usable_chain(
        one for name in listed for one in x509.load_pem_x509_certificates(found.files[name])
    )
    public = found.public_keys.get(str(names["key"]))
    fits = False
    if chain and public is not None:
        wanted = chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        fits = public in (b"", wanted)
    return Held(
        config=config,
        hashes={
            name: found.passwords.get(name) or _digest(found.files.get(name))
            for name in named_files(config)
        },
        chain=chain,
        key_fits=fits,
        claimed_by=claimed_by if isinstance(claimed_by, str) else None,
    )


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()
