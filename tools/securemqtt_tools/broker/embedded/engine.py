"""The embedded broker, run as a process of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from securemqtt_tools.broker.child import Child
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.engine import Engine, Standing
from securemqtt_tools.broker.kinds import AMQTT
from securemqtt_tools.broker.mosquitto.program import READY

# Behind the time and who says it, and nowhere else: a line may have what a client has chosen.
_RELOADED = re.compile(rb"^\S+ \S+ INFO \S+: Reloaded$", re.MULTILINE)


class Embedded(Engine):
    """amqtt under our rules. It puts out by itself who was revoked, and resumes no TLS session of a
    certificate that has expired.
    """

    name = AMQTT
    ready = READY

    @property
    def title(self) -> str:
        """What people call it."""
        return "The embedded broker (amqtt)"

    def prepare(self, config: BrokerConfig, log: Path) -> None:
        """Write nothing: it reads the directory's own files."""

    def command(self, config: BrokerConfig) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-m", "securemqtt_tools.broker.embedded", str(config.directory)]

    def take_up(self, child: Child, before: Standing, now: Standing) -> bool:
        """Have it read its files anew. Raise FatalError."""
        child.read_anew(_RELOADED)
        return True

    def keep_out(self, child: Child) -> bool:
        """Do nothing: it looks once more at a certificate that it had seen before a reload."""
        return True

    def let_go(self) -> None:
        """Do nothing: nobody is looked for."""

    def end_tls_sessions(self, child: Child) -> bool:
        """Do nothing: it looks at the dates of a resumed session's certificate."""
        return True
