"""A device's bundle in the making: its files and its config.json, in DER for a board and in PEM for
a Pi.

A device uses what its config.json names, so a new identity goes under names that are not in use,
and config.json is replaced last: whenever the power goes, the device has its old identity or its
new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from cryptography import x509

from securemqtt_tools.broker.kinds import RABBITMQ
from securemqtt_tools.pki import Issued
from securemqtt_tools.pki.issued import certificate_der, certificate_pem

CONFIG = "config.json"
LOGIN_KEY = "password_file"
LOGIN_SUFFIX = ".password"
RULE_KEYS = ("may_publish", "may_subscribe", "max_publish_bytes")
PRESET = "preset"
# Names that a bundle has unless they are in use by the identity that is being replaced.
BOARD_NAMES = {"certificate": ["device.der"], "key": "device.key.der"}
PI_NAMES = {"certificate": ["device.pem"], "key": "device.key"}


@dataclass(frozen=True)
class Rules:
    """What our own broker lets a device do: topic filters, the largest PUBLISH, and the preset of a
    broker that cannot do all of MQTT.
    """

    may_publish: tuple[str, ...]
    may_subscribe: tuple[str, ...]
    max_publish_bytes: int
    preset: str | None = None

    def entries(self) -> dict[str, Any]:
        """Return the keys of config.json that say so."""
        return {
            **({} if self.preset is None else {PRESET: self.preset}),
            "may_publish": list(self.may_publish),
            "may_subscribe": list(self.may_subscribe),
            "max_publish_bytes": self.max_publish_bytes,
        }


@dataclass(frozen=True)
class Settings:
    """What config.json says beside the names of files.

    None leaves a key to the user, or to the library's default. `made_elsewhere`: certificate and
    key come from files, and nothing is issued; `is_foreign`: they are for another broker than ours.
    """

    device_id: str
    host: str
    port: int
    keep_alive_s: int | None = None
    ntp_host: str | None = None
    rules: Rules | None = None
    prefix: str | None = None
    made_elsewhere: bool = False
    is_foreign: bool = False
    password: bytes | None = field(default=None, repr=False)  # beside the id as user name

    def entries(self) -> dict[str, Any]:
        """Return the keys of config.json that these settings fix."""
        entries: dict[str, Any] = {
            "format": 1,
            "client_id": self.device_id,
            "host": self.host,
            "port": self.port,
        }
        if self.ntp_host is not None:
            entries["ntp_host"] = self.ntp_host
        if self.keep_alive_s is not None:
            entries["keep_alive_s"] = self.keep_alive_s
        if self.prefix is not None:
            entries["prefix"] = self.prefix
        if self.is_foreign:
            entries["imported"] = True
        if self.password is not None:
            entries["username"] = self.device_id
        if self.rules is not None:
            entries.update(self.rules.entries())
        return entries


@dataclass(frozen=True)
class Files:
    """Files to put into a bundle, and the keys of config.json that name them.

    Never shown: one may be a private key.
    """

    names: dict[str, Any]
    content: dict[str, bytes] = field(repr=False)


def anchor_files(
    anchors: Sequence[x509.Certificate], in_use: Mapping[str, str | None], der: bool
) -> Files:
    """Return the trust anchors, one certificate per file.

    `in_use`: the hashes of files that the device relies on now.
    """
    content = {}
    for number, anchor in enumerate(anchors):
        encoded = certificate_der(anchor) if der else certificate_pem(anchor)
        digest = hashlib.sha256(encoded).hexdigest()
        there = [name for name, held in in_use.items() if held == digest]
        name = (
            there[0]
            if there
            else _free(f"ca{number or ''}.{'der' if der else 'pem'}", digest[:8], in_use)
        )
        content[name] = encoded
    return Files({"ca": list(content)}, content)


def password_files(
    settings: Settings, current: Mapping[str, Any], in_use: Mapping[str, str | None]
) -> Files:
    """Return the file of the password; where there is none to put, what the device has stays its
    own.

    `current` is its config.json. The name says nothing of the content.
    """
    name = current.get(LOGIN_KEY)
    if settings.password is None:
        stays = current.get("client_id") == settings.device_id and isinstance(name, str)
        return Files({LOGIN_KEY: name} if stays else {}, {})
    digest = hashlib.sha256(settings.password).hexdigest()
    if not isinstance(name, str) or in_use.get(name) != digest:
        name = _free(f"device{LOGIN_SUFFIX}", secrets.token_hex(4), in_use)
    return Files({LOGIN_KEY: name}, {name: settings.password})


def identity_files(
    issued: Issued, in_use: Mapping[str, str | None], der: bool, key_passphrase: bytes | None = None
) -> Files:
    """Return certificate, intermediate and private key: one file each in DER, the chain in one file
    in PEM.
    """
    tag = issued.serial[:8].lower()
    if der:
        names = ["device.der", "intermediate.der"]
        names += [f"intermediate{number}.der" for number in range(2, len(issued.chain))]
        chain = dict(zip(names, issued.chain_der(), strict=False))
        key, key_content = "device.key.der", issued.key_der()
    else:
        chain = {"device.pem": issued.chain_pem()}
        key, key_content = "device.key", issued.key_pem(key_passphrase)
    certificates = {_free(name, tag, in_use): content for name, content in chain.items()}
    key = _free(key, tag, in_use)
    return Files(
        {"certificate": list(certificates), "key": key}, {**certificates, key: key_content}
    )


def config_text(
    settings: Settings,
    names: Mapping[str, Any],
    current: Mapping[str, Any],
    clock_floor: int,
    journal_bytes: int | None = None,
) -> bytes | None:
    """Return the new content of config.json, or None when `current` says the same already.

    Keys of the user's own in `current` are kept, but for the rules of a broker that is another one
    now; so `journal_bytes`, the size of the durable
    outbox, is for a device that has none yet; `clock_floor` (seconds since 1970) alone is no reason
    for a change.
    """
    kept = dict(current) if current.get("client_id") == settings.device_id else {}
    if not settings.is_foreign:
        kept.pop("imported", None)
    elsewhere = (kept.get("host"), kept.get("port")) != (settings.host, settings.port)
    if settings.rules is None and elsewhere:
        kept = {key: kept[key] for key in kept if key not in RULE_KEYS}
    if kept.get(PRESET) == RABBITMQ:  # it was our own, which may be another kind by now
        del kept[PRESET]
    sizes = {} if journal_bytes is None else {"outbox_journal_bytes": journal_bytes}
    wanted = {**sizes, **kept, **settings.entries(), **names}
    if wanted == current and isinstance(current.get("clock_floor"), int):
        return None
    return json.dumps({**wanted, "clock_floor": clock_floor}, indent=2).encode() + b"\n"


def named_files(config: Mapping[str, Any]) -> list[str]:
    """Return the files that a config.json names, those in its own directory only."""
    values = [config.get(key) for key in ("ca", "certificate", "key", LOGIN_KEY)]
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, str) and one and "/" not in one]


def parsed_object(content: bytes | None) -> dict[str, Any]:
    """Return what a config.json or claim.json says that was found on a device; nothing where there
    is none, or it makes no sense.
    """
    try:
        value = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _free(name: str, tag: str, in_use: Mapping[str, str | None]) -> str:
    if name not in in_use:
        return name
    path = PurePosixPath(name)
    return f"{path.name.split('.')[0]}-{tag}{''.join(path.suffixes)}"
