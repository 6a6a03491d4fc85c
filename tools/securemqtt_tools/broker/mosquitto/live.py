"""Having a system's Mosquitto take up new files, and put out who was revoked, while it goes on.

What it does is read in its log, since a signal says nothing of that: the log shows when it begins
to read, before which it serves nobody else (that it can read them was tried out before, trial.py),
and who comes in all the same.

Root reads that log and enters that socket, both in directories that are the user mosquitto's. So
whoever holds that user can only have the reload fail, or lie about the broker that is his anyway:
no link to a log is followed and nothing of it is shown; and where the socket is a link to another,
all that one gets is the beginning of a TLS handshake, which ends there, as it has no certificate
of ours. What we show is worth nothing elsewhere: no other listener trusts the throwaway authority.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.away import MOST_AWAY, Held, Presence, named
from securemqtt_tools.broker.mosquitto.connections import ports_of
from securemqtt_tools.broker.mosquitto.eviction import Authority, Watch
from securemqtt_tools.broker.mosquitto.log import RELOADED, Log
from securemqtt_tools.broker.mosquitto.program import Program, Version
from securemqtt_tools.broker.mosquitto.restart import run
from securemqtt_tools.pki.files import explained

_WATCH_S = 0.3
_ENTER = "enter the sessions of those who are away"
_HAS_READ = "that it has read its files anew"


Trusted = Callable[[str, bytes], AbstractContextManager[None]]
"""Has a file of this name and content lie among those that the listener trusts."""


@dataclass(frozen=True)
class Reload:
    """How a running Mosquitto takes up what has changed, told so by `command`, while all devices
    but `gone` stay connected, which were revoked since the last time.
    """

    command: list[str]
    gone: frozenset[str]
    socket: Path | None
    log: Path
    version: Version

    def run(self, config: BrokerConfig, trusted: Trusted, timeout_s: float) -> Watching | None:
        """Run it, and wait until Mosquitto has read its files and `gone` are out, about `timeout_s`
        at most; return the watch that keeps them out, if there are any. Raise FatalError.
        """
        log = Log(self.log)
        if self.socket is None:
            run(self.command)
            log.await_match(RELOADED, log.size, timeout_s, _HAS_READ)
            return None
        authority, watching = Authority(self.socket), None
        with self._holding(config, authority, trusted, log):
            begin = log.end()
            run(self.command)
            begin += log.await_match(RELOADED, begin, timeout_s, _HAS_READ)
            if self.gone:
                watching = Watching(config, authority, trusted, log)
                watching.begin(self.gone, begin, timeout_s)
        return watching

    def hindrance(self, config: BrokerConfig) -> str:
        """Return why it has to be a restart, since somebody would lose something; "" if nobody
        would. Raise FatalError.
        """
        who = self._named(config)
        if not who:
            return ""
        if self.socket is None:
            return "the sessions of who has a role or a rule, and is away, cannot be entered"
        away = len(Presence(Log(self.log)).absent(who))
        if away <= MOST_AWAY:
            return ""
        return f"{away} who have a role or a rule are away, more than {MOST_AWAY}, and may lose it"

    def connecting_anew(self, config: BrokerConfig) -> set[str]:
        """Return those who are put out as well, if they are connected: whose session has to be
        entered where the log does not show who is away, since it was begun anew, or is silent of
        that. Raise FatalError.
        """
        who = self._named(config)
        if not who:
            return set()
        presence = Presence(Log(self.log))
        if presence.is_known and presence.tells_comings:
            return set()
        return {*presence.absent(who)}

    @contextmanager
    def _holding(
        self, config: BrokerConfig, authority: Authority, trusted: Trusted, log: Log
    ) -> Iterator[None]:
        """Have those who are away keep what is theirs over a reload: see away.py. Raise
        FatalError.
        """
        who = self._named(config)
        if not who:
            yield
            return
        with (
            explained(_ENTER),
            trusted(authority.hashed_name, authority.certificate),
        ):
            held = Held(authority, config, who, Presence(log))
        with held:
            yield
            with (
                explained(_ENTER),
                trusted(authority.hashed_name, authority.certificate),
            ):
                held.complete()

    def _named(self, config: BrokerConfig) -> set[str]:
        return named(config, self.version) - self.gone


def losses_by_others(config: BrokerConfig, program: Program) -> list[str]:
    """Return what is lost by a reload that somebody else causes (see away.py), in a sentence, if
    something is. Raise FatalError when the rules cannot be read.
    """
    if not named(config, program.version):
        return []
    return [
        f"where somebody else reloads Mosquitto {program.version_text}, as logrotate does, what "
        f"comes by a role or a rule to who is away is lost from then on: see docs/rules.md. "
        f"Mosquitto 2.1 loses nothing"
    ]


class Watching:
    """Keeps out who was revoked, had shown its certificate before that, and says CONNECT only
    later: Mosquitto lets it in.
    """

    def __init__(
        self, config: BrokerConfig, authority: Authority, trusted: Trusted, log: Log
    ) -> None:
        self._config = config
        self._authority = authority
        self._trusted = trusted
        self._log = log
        self._watch = Watch(log, ports_of(config))

    @property
    def left_s(self) -> float:
        """For how long one may still come in, in seconds."""
        return max(0.0, self._watch.left_s)

    def begin(self, gone: Collection[str], offset: int, timeout_s: float) -> None:
        """Put out who was revoked; Mosquitto has read the CRL where its log has reached `offset`.

        Raise FatalError also where the log does not show our own coming: it would not show theirs.
        """
        deadline = time.monotonic() + timeout_s
        self._watch.begin(gone, offset)
        self._put_out(gone)
        for device_id in gone:
            ours = rb"^\S+: New client connected from %s\S* as %s \(" % (
                re.escape(os.fsencode(self._authority.socket)),
                re.escape(device_id.encode()),
            )
            pattern = re.compile(ours, re.MULTILINE)
            left_s = max(0.0, deadline - time.monotonic())
            self._log.await_match(pattern, offset, left_s, "who connects")

    def run(self) -> bool:
        """Look out until the time is over, at most 100 s; return True if connections of before are
        still there, as far as is known, by which one who sends his CONNECT bit by bit may come in.
        Raise FatalError.
        """
        while True:
            is_over = self._watch.is_over()
            self._put_out(self._watch.entered())
            if is_over:
                return self._watch.prolong() is not False
            time.sleep(_WATCH_S)

    def _put_out(self, device_ids: Collection[str]) -> None:
        if not device_ids:
            return
        with (
            explained("put out who was revoked"),
            self._trusted(self._authority.hashed_name, self._authority.certificate),
        ):
            self._authority.put_out(self._config, device_ids)
