"""What a kind of broker has to offer to be run here."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from securemqtt_tools.broker.child import ANSWER_S, Child, own_environment
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.rules_file import unenforced


@dataclass(frozen=True)
class Standing:
    """What a broker goes by: its settings, and the CRL that it has read."""

    config: BrokerConfig
    crl: x509.CertificateRevocationList

    @classmethod
    def read(cls, directory: Path) -> Standing:
        """Read what lies in a broker's directory. Raise FatalError."""
        config = BrokerConfig.open(directory)
        return cls(config, config.crl())


class Engine(ABC):
    """A kind of broker, for one process at a time."""

    name: str
    """One of kinds.ENGINES."""
    ready: re.Pattern[bytes]
    """What its log says when it listens."""
    kept: str | None = None
    """Where, below the broker's directory, it keeps what waits for clients that are away; None if
    that ends with it."""
    start_s = ANSWER_S
    """How long it may take to start."""
    stop_s = 15.0
    """How long it may take to end in order."""
    enforces_networks = True
    """Whether it holds an identity to the networks that it has to come from."""
    must_know_devices = False
    """Whether it lets in only devices that it has been told of: devices.json has them."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What people call it."""

    def shortcomings(self, config: BrokerConfig) -> list[str]:
        """Return what it cannot do of what the settings and the rules ask for, a sentence each.
        Raise FatalError when they cannot be read.
        """
        return []

    def neglects(self, config: BrokerConfig) -> list[str]:
        """Return what of that comes from the rules. Raise FatalError when they cannot be read."""
        return [] if self.enforces_networks else unenforced(self.title, config.directory)

    def may_take_s(self, config: BrokerConfig) -> float:
        """Return how long it may take to start with these settings."""
        return self.start_s

    @abstractmethod
    def prepare(self, config: BrokerConfig, log: Path) -> None:
        """Write the files that it reads at its start. Raise FatalError."""

    @abstractmethod
    def command(self, config: BrokerConfig) -> list[str]:
        """Return the command that starts it in the foreground, one process that SIGTERM ends in
        order.
        """

    def environment(self, config: BrokerConfig) -> Mapping[str, str]:
        """Return all of the environment that it is started with."""
        return own_environment()

    def is_whole(self, child: Child) -> bool:
        """Whether it listens on each of its ports, once it says that it listens."""
        return True

    def complete(self, child: Child) -> None:  # noqa: B027  (most have nothing left to do)
        """Do what is left to do once it listens. Raise FatalError."""

    @abstractmethod
    def take_up(self, child: Child, before: Standing, now: Standing) -> bool:
        """Have the running one take up changed rules, passwords, certificates and CRL, and put out
        who was revoked since, while all others stay connected.

        Return False where it has to be restarted for that. Raise FatalError where it does not do
        it, and may be asked again.
        """

    @abstractmethod
    def keep_out(self, child: Child) -> bool:
        """Put out who was revoked and comes in all the same; return False where it has to be
        restarted for that. Called twice a second or so.
        """

    @abstractmethod
    def let_go(self) -> None:
        """Look out for nobody any more, where neither `keep_out` nor a restart can be; put out once
        who would have been looked for.
        """

    @abstractmethod
    def end_tls_sessions(self, child: Child) -> bool:
        """Have it forget the TLS sessions that may be resumed; return False where it would have to
        be restarted for that. Raise FatalError.
        """
