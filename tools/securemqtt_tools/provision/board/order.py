"""What a run over a board is to do, as the command has it from the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from securemqtt_tools.profiles import Profile
from securemqtt_tools.provision.bundle import Settings
from securemqtt_tools.provision.identity import Source


@dataclass(frozen=True)
class Order:
    """What is to be done.

    `wifi` gives the content of wifi.json, and may ask for it; None leaves it. `programs` are to be
    put there anyway. `romfs` puts the library into the board's ROMFS; where it is already, it stays
    there anyway.
    """

    profile: Profile
    settings: Settings
    authority: Source
    cache: Path
    port: str | None = None
    wifi: Callable[[], bytes] | None = field(default=None, repr=False)
    main: Path | None = None
    programs: frozenset[str] = frozenset()
    certificate_days: int | None = None
    renew: bool = False
    dry_run: bool = False
    connect: bool = True
    romfs: bool = False
    roots: tuple[x509.Certificate, ...] = ()  # to be trusted beside the authority's
    broker_names: tuple[str, ...] = ()  # of our own broker, whether or not the board goes there

    def anchors(self) -> list[x509.Certificate]:
        """Return the CAs by which the board is to verify its broker."""
        return [*self.authority.trust_anchors(), *self.roots]
