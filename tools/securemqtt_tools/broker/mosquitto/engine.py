"""Mosquitto, run as a process of our own."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import nullcontext, suppress
from pathlib import Path

from securemqtt_tools.broker import config as files
from securemqtt_tools.broker.child import Child
from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.engine import Engine, Standing
from securemqtt_tools.broker.kinds import MOSQUITTO
from securemqtt_tools.broker.mosquitto.away import MOST_AWAY, Held, Presence, named
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
from securemqtt_tools.pki.files import explained, write_file

CONFIGURATION = "mosquitto.conf"
_EVICTION = "eviction"
_SAVED = "mosquitto.db"  # what it calls its sessions' file, unless it is told otherwise
_ENTER = "enter the sessions of those who are away"
_AGAIN_S = 0.5  # it forgets a signal that comes while it reads already
_AT_ONCE = 5


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
        self._presence: Presence | None = None
        self._has_read_sessions = False
        self._unseen: list[str] = []
        """Who may have a session: it is looked up between reloads, so that few are left for one."""

    @property
    def title(self) -> str:
        """What people call it."""
        return f"Mosquitto {self.program.version_text}"

    def shortcomings(self, config: BrokerConfig) -> list[str]:
        """Return what this version cannot do."""
        return shortcomings(config, self.program)

    def prepare(self, config: BrokerConfig, log: Path) -> None:
        """Write its configuration, and make the way to put devices out. Raise FatalError."""
        self._watch, self._config, self._presence = None, config, None
        self._has_read_sessions = (config.directory / files.DATA / _SAVED).exists()
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

    def complete(self, child: Child) -> None:
        """Begin to see who is connected. Raise FatalError."""
        self._presence = Presence(Log(child.log), child.begin)
        if self._config is not None:
            self._unseen = sorted(named(self._config, self.program.version))

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
            held = self._hold(now.config, gone)
        except (OSError, FatalError):  # after a restart all have what is theirs
            return False
        with held or nullcontext():
            try:
                offset = child.read_anew(RELOADED, _AGAIN_S)
            except FatalError:
                # It may have read them all the same, and only its log is silent.
                if child.running and not self._put_out(before.config, gone):
                    return False
                raise
            self._config = now.config
            self._unseen = sorted(named(now.config, self.program.version))
            if gone:
                late = self._latecomers()
                if late is None:
                    return False
                gone |= late
                self._watch = self._watch or Watch(log, ports_of(now.config))
                self._watch.begin(gone, offset)
            if not self._put_out(now.config, gone):
                return False
            try:
                if held is not None:
                    held.complete()
            except (OSError, FatalError):
                return False
        return True

    def keep_out(self, child: Child) -> bool:
        """Put out who was revoked, had shown its certificate before that, and says CONNECT only
        now: Mosquitto lets it in. Return False where that takes a restart.

        Does nothing once all connections of before have ended, or after 100 s where the kernel does
        not tell. Raise FatalError.
        """
        if self._presence is not None:
            try:
                self._presence.update()
            except FatalError:  # somebody has begun its log anew
                self._presence = None
        self._look_up()
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
        with explained(_ENTER):
            held = self._hold(self._config, ())
        with held or nullcontext():
            child.read_anew(RELOADED, _AGAIN_S)
            if held is not None:
                with explained(_ENTER):
                    held.complete()
        return True

    def _hold(self, config: BrokerConfig, gone: Collection[str]) -> Held | None:
        """Enter the sessions of those who are away, but for `gone`, for the time of a reload (see
        away.py). Raise OSError, and FatalError where they cannot be, or are too many.
        """
        who = named(config, self.program.version).difference(gone)
        presence = self._presence
        if not who:
            return None
        if presence is None:
            raise FatalError("its log was begun anew, and does not show who is connected")
        presence.update()
        if config.passwords:  # then it gives lines to all but those whom it has read from its disk
            from_disk = who.difference(presence.comings) if self._has_read_sessions else ()
            if from_disk:
                raise FatalError(
                    f"{len(from_disk)} who have a role or a rule have not come since the start, "
                    f"and would lose what comes to them by it"
                )
            return None
        away = len(presence.absent(who))
        if away > MOST_AWAY:
            raise FatalError(
                f"{away} who have a role or a rule are away, more than {MOST_AWAY}, and would lose "
                f"what comes to them by it"
            )
        if self._eviction is None:
            raise FatalError("there is no way into their sessions")
        return Held(self._eviction, config, who, presence)

    def _look_up(self) -> None:
        """Look up of a few more who are away whether they have a session."""
        presence, eviction, config = self._presence, self._eviction, self._config
        if presence is None or eviction is None or config is None or self._is_fragile(config):
            return
        absent, self._unseen = presence.absent(self._unseen), []
        if absent:
            # What cannot be entered now is entered at the reload, which says so if it cannot.
            with suppress(OSError, FatalError):
                Held(eviction, config, absent[:_AT_ONCE], presence).leave()
            self._unseen = absent[_AT_ONCE:]

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
