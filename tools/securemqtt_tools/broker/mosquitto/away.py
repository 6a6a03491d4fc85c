"""Who is away, for Mosquitto before 2.1: when that reads its files anew, it gives the lines of the
ACL file that are for one user to those alone who are connected. To a kept session whose client is
away, what comes by a role or a rule is lost from then on, and acknowledged to the sender, until the
client is back (mosquitto_security_apply_default in 2.0.11 and 2.0.21; own prefixes come by a
pattern, and stay).

So after each reload the sessions of those who are away are entered once, by the way in of
eviction.py, with nothing said: a CONNECT gives them their lines again.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.eviction import Authority
from securemqtt_tools.broker.mosquitto.log import Log
from securemqtt_tools.broker.mosquitto.program import REWORKED_SINCE, Version
from securemqtt_tools.broker.rules_file import read_rules

# Beyond so many, a restart takes less.
MOST_AWAY = 200
# Behind the time, and nowhere else: a line may have what a client has chosen.
_STARTS = re.compile(rb"\S+: mosquitto version \S+ starting")
# Not by a Unix socket, as we do.
_ENTERS = re.compile(rb"\S+: New client connected from [^\s/]\S* as (\S+) \(")
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
    """Who is connected, as Mosquitto's log says."""

    def __init__(self, log: Log, size: int) -> None:
        """Read the log up to `size`. Raise FatalError."""
        self._log = log
        self._offset = 0
        self.here: set[str] = set()
        self.is_known = False
        """Whether the log has Mosquitto's start, so that all who came are in it."""
        self._take(log.before(size))
        self._offset = size

    def update(self) -> None:
        """Read on. Raise FatalError."""
        said = self._log.since(self._offset)
        whole = said[: said.rfind(b"\n") + 1]
        self._take(whole)
        self._offset += len(whole)

    def _take(self, log: bytes) -> None:
        for line in log.splitlines():
            if entered := _ENTERS.match(line):
                self.here.add(entered[1].decode(errors="replace"))
            elif _STARTS.match(line):
                self.here.clear()
                self.is_known = True
            elif left := _LEAVES.match(line):
                self.here.discard(str(left["client"] or left["broken"], "ascii"))


def look_in(
    authority: Authority, config: BrokerConfig, away: Collection[str], presence: Presence
) -> None:
    """Enter the sessions of those who are away, and leave them as they are. Who comes back
    meanwhile is left alone. Takes some milliseconds for each. Raise OSError, FatalError.
    """
    for one in sorted(away):
        presence.update()
        if one in presence.here:
            continue
        try:
            had_session = authority.look_in(config, one)
        except OSError:
            presence.update()
            if one not in presence.here:  # it has taken our place, and has all that is its own
                raise
            continue
        presence.update()
        if not had_session and one not in presence.here:
            authority.put_out(config, [one])  # the session that we have made
