"""The directory in which the host commands keep their state: what is where in it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

_WITNESSES = ("crl.pem", "server.pem", "root-crl.pem")


@dataclass(frozen=True)
class Home:
    """Such a directory, by its path; nothing of it needs to be there."""

    path: Path

    @classmethod
    def of(cls, user: Path) -> Home:
        """Return the one that a user with this home directory has, unless he names another."""
        return cls(user / ".securemqtt")

    @property
    def ca(self) -> Path:
        """The authority's directory."""
        return self.path / "ca"

    @property
    def broker(self) -> Path:
        """The broker's directory."""
        return self.path / "broker"

    def node(self, name: str) -> Home:
        """Return the home that is made here for another node of a cluster, to be brought there."""
        return Home(self.path / "nodes" / name)

    @property
    def witnesses(self) -> tuple[Path, ...]:
        """Files of the broker's that show when the authority comes from an older backup."""
        kept = sorted(self.broker.glob("crl.newest*.pem"))
        return (*(self.broker / one for one in _WITNESSES), *kept)

    @property
    def bundles(self) -> Path:
        """The directory of the bundles, each under its id."""
        return self.path / "bundles"

    @property
    def cache(self) -> Path:
        """The directory of what can be fetched or made anew."""
        return self.path / "cache"

    def bundle(self, identity: str) -> Path:
        """Return where the bundle of an id is looked for."""
        return self.bundles / identity

    def ids(self) -> list[str]:
        """Return the ids that have bundles here. A directory that no id can be the name of is none
        of them: it could move a terminal.
        """
        from securemqtt.protocol.topics import valid_elsewhere

        names = (path.parent.name for path in self.bundles.glob("*/config.json"))
        return sorted(one for one in names if one.isprintable() and valid_elsewhere(one))

    def has_certified(self, identity: str) -> bool:
        """Return True if the authority has given an id a certificate. Raise FatalError for an
        inventory that cannot be read.
        """
        from securemqtt_tools.pki.inventory import Inventory  # only now: they take time to load
        from securemqtt_tools.pki.layout import INVENTORY

        path = self.ca / INVENTORY
        return path.exists() and any(
            one.subject == identity for one in Inventory(path).entries("device")
        )

    def making(self, identity: str) -> str:
        """Return the command that makes a bundle where it is looked for."""
        out = shlex.quote(str(self.bundle(identity)))
        return f"`securemqtt provision pi --id {shlex.quote(identity)} --broker … --out {out}`"
