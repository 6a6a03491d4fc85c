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

from securemqtt_tools.broker.config import BrokerConfig
from securemqtt_tools.broker.mosquitto.program import REWORKED_SINCE, Version
from securemqtt_tools.broker.rules_file import read_rules

# Beyond so many, a restart takes less.
MOST_AWAY = 200
# Behind the time, and nowhere else: a line may have what a client has chosen.
_STARTS = re.compile(rb"\S+: mosquitto version \S+ starting")
_ENTERS = re.compile(rb"\S+: New client connected from \S+ as (\S+) \(")
# Whatever else is said of a client ends its connection, or nearly: who is taken for being away, and
# is not, connects anew.
_LEAVES = re.compile(rb"\S+: (?:.* )?[Cc]lient ([A-Za-z0-9_-]+)[ ,:.]")


def who_is_away(config: BrokerConfig, version: Version, log: bytes) -> set[str]:
    """Return who has lines of the ACL file that are for him alone, and is not connected, as the log
    of the running Mosquitto says; nobody where this version gives them to all. Raise FatalError
    when the rules cannot be read.
    """
    if version >= REWORKED_SINCE:
        return set()
    named = config.roles.keys() | read_rules(config.directory).identities()
    return set(named) - connected(log)


def connected(log: bytes) -> set[str]:
    """Return the clients that are connected at the end of a log."""
    here: set[bytes] = set()
    for line in log.splitlines():
        entered = _ENTERS.match(line)
        if entered is not None:
            here.add(entered[1])
        elif _STARTS.match(line):
            here.clear()
        elif (left := _LEAVES.match(line)) is not None:
            here.discard(left[1])
    return {one.decode(errors="replace") for one in here}
