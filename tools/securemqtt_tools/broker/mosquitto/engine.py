"""Mosquitto, run as a process of our own."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.child import Child
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.engine import Engine, Standing
from securemqtt_tools.broker.kinds import MOSQUITTO
from securemqtt_tools.broker.mosquitto.away import MOST_AWAY, Presence, look_in, named
from securemqtt_tools.broker.mosquitto.connections import ports_of
from securemqtt_tools.broker.mosquitto.eviction import MOST, Eviction, Watch
from securemqtt_tools.broker.mosquitto.log import RELOADED, Log
from securemqtt_tools.broker.mosquitto.program import (
    READY,
    REWORKED_SINCE,
    Places,
    Program,
    render,
    shortcomings,
)
from securemqtt_tools.broker.revocations import newly_revoked
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import write_file

CONFIGURATION = "mosquitto.conf"
_EVICTION = "eviction"


class Mosquitto(Engine):
    """A Mosquitto that is installed here. Its live sessions outlast a new CRL, so those of the
    devices that were revoked are ended one by one.
    """

    name = MOSQUITTO
    ready = READY
    kept = files.DATA
    enforces_networks = False

    def __init__(self, program: Program) -> None:
        self.program = program
        self._eviction: Eviction | None = None
        self._watch: Watch | None = None
        self._config: BrokerConfig | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return f"Mosquitto {self.program.version_text}"

    def shortcomings(self, config: BrokerConfig) -> list[str]:
        """Return what this version cannot do."""
        return shortcomings(config, self.program)

    def prepare(self, config: BrokerConfig, log: Path) -> None:
        """Write its configuration, and make the way to put devices out. Raise FatalError."""
        self._watch, self._config = None, config
        self._eviction = self._new_eviction(config)
        places = Places(
            config.directory,
            Path(files.DATA),
            log.resolve(),
            # Started by root, Mosquitto would become the user mosquitto and could read nothing of
            # what is ours.
            "root" if os.geteuid() == 0 else None,
            self._eviction.door if self._eviction is not None else None,
        )
        text = render(config, places, self.program.version)
        write_file(config.directory / CONFIGURATION, text.encode())

    def command(self, config: BrokerConfig) -> list[str]:
        """Return the command that starts it."""
        return [str(self.program.path), "-c", str(config.directory / CONFIGURATION)]

    def take_up(self, child: Child, before: Standing, now: Standing) -> bool:
        """Have it read its files anew, and put out who was revoked since; call `keep_out` from then
        on.

        Return False where it has to be restarted for that: with WebSockets before 2.1, where a
        reload leaves that listener in ruins, and where many were revoked. Raise FatalError.
        """
        if self._is_fragile(before.config):
            return False
        most = MOST if self._eviction is not None else 0
        gone = newly_revoked(now.config.directory, now.crl, before.crl, most)
        if gone is None:
            return False
        try:
            log = Log(child.log)
        except FatalError:  # somebody has moved it away, and Mosquitto writes on to where it is now
            return False
        try:
            offset = child.read_anew(RELOADED)
        except FatalError:
            # It may have read them all the same, and only its log is silent.
            if child.running and not self._put_out(before.config, gone):
                return False
            raise
        self._config = now.config
        if gone:
            late = self._latecomers()
            if late is None:
                return False
            gone |= late
            self._watch = self._watch or Watch(log, ports_of(now.config))
            self._watch.begin(gone, offset)
        return self._put_out(now.config, gone) and self._look_in(now.config, log, offset, gone)

    def keep_out(self, child: Child) -> bool:
        """Put out who was revoked, had shown its certificate before that, and says CONNECT only
        now: Mosquitto lets it in. Return False where that takes a restart.

        Does nothing once all connections of before have ended, or after 100 s where the kernel does
        not tell. Raise FatalError.
        """
        if self._watch is None or self._config is None:
            return True
        if self._watch.is_over() and not self._watch.prolong():
            self._watch = None
            return True
        late = self._latecomers()
        return late is not None and self._put_out(self._config, late)

    def let_go(self) -> None:
        """Put out those who are looked for, and look for nobody any more."""
        if self._watch is not None and self._config is not None:
            self._put_out(self._config, self._watch.device_ids)
        self._watch = None

    def end_tls_sessions(self, child: Child) -> bool:
        """Have it read its files anew, by which it forgets TLS sessions, and connections stand.
        Return False where that would take a restart: see `take_up`. Raise FatalError.
        """
        if self._config is None or self._is_fragile(self._config):
            return False
        log = Log(child.log)
        # Before it, since nobody restarts it for this.
        if self._away(self._config, Presence(log, child.log_size())) is None:
            return False
        return self._look_in(self._config, log, child.read_anew(RELOADED), set())

    def _away(self, config: BrokerConfig, presence: Presence) -> set[str] | None:
        """Return whose sessions have to be entered after a reload (see away.py); None where they
        cannot be, or are too many.
        """
        who = named(config, self.program.version)
        # With passwords Mosquitto knows those by theirs whom it has not read from its disk.
        if not who or config.passwords:
            return set()
        away = who - presence.here
        if not presence.is_known or len(away) > MOST_AWAY:
            return None
        return None if away and self._eviction is None else away

    def _look_in(self, config: BrokerConfig, log: Log, offset: int, gone: Collection[str]) -> bool:
        """Enter them, but for `gone`, after a reload that the log has at `offset`; return False
        where it takes a restart, after which all have what is theirs.
        """
        try:
            presence = Presence(log, offset)
            away = self._away(config, presence)
            if away is not None and self._eviction is not None:
                look_in(self._eviction, config, away.difference(gone), presence)
        except (OSError, FatalError):
            return False
        return away is not None

    def _is_fragile(self, config: BrokerConfig) -> bool:
        """Whether a reload leaves a listener in ruins: that of WebSockets before 2.1."""
        return config.websockets_port is not None and self.program.version < REWORKED_SINCE

    def _latecomers(self) -> set[str] | None:
        """Return who has come in that is to be kept out; None if that cannot be seen any more,
        since the log was begun anew.
        """
        if self._watch is None:
            return set()
        try:
            return self._watch.entered()
        except FatalError:
            return None

    def _put_out(self, config: BrokerConfig, device_ids: Collection[str]) -> bool:
        if device_ids and self._eviction is not None:
            try:
                self._eviction.put_out(config, device_ids)
            except (OSError, FatalError):  # a restart does it, too
                return False
        return True

    def _new_eviction(self, config: BrokerConfig) -> Eviction | None:
        directory = config.directory / _EVICTION
        # With passwords a certificate may have served under another one's name.
        if config.passwords or not Eviction.fits(directory):
            return None
        return Eviction(directory)
