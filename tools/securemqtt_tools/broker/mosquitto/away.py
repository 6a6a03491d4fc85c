"""Who is away, for Mosquitto before 2.1: when that reads its files anew, it gives the lines of the
ACL file that are for one user to those alone who are connected. To a kept session whose client is
away, what comes by a role or a rule is lost from then on, and acknowledged to the sender, until the
client is back (mosquitto_security_apply_default in 2.0.11 and 2.0.21; own prefixes come by a
pattern, and stay).

So before each reload the sessions of those who are away are entered, by the way in of eviction.py,
and left only after it: during it they are connected.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import ExitStack

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.eviction import (
    CONNECT_KEPT,
    CONNECT_TIDY,
    Authority,
    Visit,
)
from securemqtt_tools.broker.mosquitto.log import Log
from securemqtt_tools.broker.mosquitto.program import REWORKED_SINCE, Version
from securemqtt_tools.broker.rules_file import read_rules

# Beyond so many, a restart takes less.
MOST_AWAY = 200
# Behind the time, and nowhere else: a line may have what a client has chosen.
_STARTS = re.compile(rb"\S+: mosquitto version \S+ starting")
# Not by a Unix socket, as we do.
_ENTERS = re.compile(rb"\S+: New client connected from [^\s/]\S* as (\S+) \((p\d, c\d)")
_COMES = re.compile(rb"\S+: New (?:client connected|connection) from ")
_CLEAN = (b"p1, c1", b"p2, c1")  # with MQTT 5 that says nothing of how long it is kept
_LEAVES = re.compile(
    rb"\S+: (?:Client (?P<client>[A-Za-z0-9_-]+) "
    rb"(?:disconnected|closed its connection|has exceeded timeout|already connected)"
    rb"|(?:Bad socket read/write|Socket error) on client (?P<broken>[A-Za-z0-9_-]+)[:,])"
)


def named(config: BrokerConfig, version: Version) -> set[str]:
    """Return who has lines of the ACL file that are for him alone; nobody where this version gives
    them to all. Raise FatalError when the rules cannot be read.
    """
    if version >= REWORKED_SINCE:
        return set()
    return {*config.roles, *read_rules(config.directory).identities()}


class Presence:
    """Who is connected, as Mosquitto's log says. An object belongs to one thread at a time."""

    def __init__(self, log: Log, begin: int = 0) -> None:
        """Read the log from `begin` on. Raise FatalError."""
        self._log = log
        self._offset = begin
        self.here: set[str] = set()
        self.is_known = False
        """Whether the log has Mosquitto's start, so that all who came since are in it."""
        self.tells_comings = False
        """Whether it has anybody's coming: Mosquitto may be told to be silent of that."""
        self.comings: Counter[str] = Counter()
        """How often each has come."""
        self.without_session: set[str] = set()
        """Of whom no session is kept, as far as is known."""
        self.update()

    def absent(self, device_ids: Iterable[str]) -> list[str]:
        """Return those who are away, and may have a session."""
        known = self.here | self.without_session
        return [one for one in device_ids if one not in known]

    def update(self) -> None:
        """Read on. Raise FatalError, also where the log was begun anew."""
        while True:
            said = self._log.since(self._offset)
            whole = said[: said.rfind(b"\n") + 1]
            if not whole:
                return
            self._take(whole)
            self._offset += len(whole)

    def _take(self, log: bytes) -> None:
        for line in log.splitlines():
            self.tells_comings = self.tells_comings or _COMES.match(line) is not None
            if entered := _ENTERS.match(line):
                who = entered[1].decode(errors="replace")
                self.here.add(who)
                self.comings[who] += 1
                self.without_session.discard(who)
                if entered[2] in _CLEAN:
                    self.without_session.add(who)
            elif _STARTS.match(line):
                self.here.clear()
                self.without_session.clear()
                self.is_known = True
            elif left := _LEAVES.match(line):
                self.here.discard(str(left["client"] or left["broken"], "ascii"))


class Held:
    """The sessions of those who are away, entered for the time of a reload."""

    def __init__(
        self,
        authority: Authority,
        config: BrokerConfig,
        device_ids: Collection[str],
        presence: Presence,
    ) -> None:
        """Enter the sessions of those who are away, some milliseconds for each; where there is
        none, that is known from then on. Raise OSError, FatalError.
        """
        self._authority = authority
        self._config = config
        self._presence = presence
        self._wanted = frozenset(device_ids)
        self._visits: list[Visit] = []
        self._seen: dict[str, int] = {}
        """How often each had come when its session was entered, or was found not to be."""
        with ExitStack() as failing:
            failing.callback(self.leave)
            self._enter(self._wanted)
            failing.pop_all()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave()

    def complete(self) -> None:
        """After the reload: leave, and do the same for who has gone since this began; to them what
        came since the reload is lost. Raise OSError, FatalError.
        """
        try:
            self._presence.update()
            gone = self._presence.absent(self._wanted)
            self._enter([one for one in gone if self._seen.get(one) != self._comings(one)])
        finally:
            self.leave()

    def leave(self) -> None:
        """Leave them as they are."""
        visits, self._visits = self._visits, []
        for one in visits:
            one.leave()

    def _enter(self, device_ids: Collection[str]) -> None:
        with self._authority.visiting(self._config) as visitor:
            for one in sorted(device_ids):
                self._presence.update()
                if one in self._presence.here or one in self._presence.without_session:
                    continue
                self._seen[one] = self._comings(one)
                try:
                    visit = visitor.enter(one, CONNECT_KEPT)
                except OSError:
                    self._presence.update()
                    if self._seen[one] == self._comings(one):
                        raise
                    continue  # it has come meanwhile, and taken our place
                if visit.had_session:
                    self._visits.append(visit)
                    continue
                visit.leave()
                self._presence.update()
                if self._seen[one] == self._comings(one):
                    visitor.enter(one, CONNECT_TIDY).leave()  # the session that we have made
                    self._presence.without_session.add(one)

    def _comings(self, one: str) -> int:
        return self._presence.comings[one]
