"""The way from foreign errors and codes to ours. Loaded when something went wrong on the network; a
board forgets it again.

What is particular to a TLS library is in backends/faults_*.py, how to ask the broker once more what
it has against us in backends/probe_*.py; kinds.py puts it into words. Each is gone before the next
is loaded, so that a board has room for that second handshake.
"""

import errno

from ._compat import TLS, TYPE_CHECKING, rarely
from .errors import SecureMQTTError

if TYPE_CHECKING:
    from typing import Any


def translated(
    error: BaseException, stage: str, settings: "dict[str, Any]"
) -> "SecureMQTTError | None":
    """Make our error of a foreign one; see failure.translated.

    May ask the broker once more, which takes 5 s at most, name resolution aside.
    """
    if isinstance(error, SecureMQTTError) or not isinstance(
        error, (OSError, ValueError, MemoryError)
    ):
        return None
    faults = rarely("backends.faults_" + TLS)
    kind, code, alert = faults.classify(error, stage)
    if kind == "system":
        kind = "offline" if faults.offline() else _of_system(code, stage)
    unsaid = kind == "closed" and stage in faults.UNSAID
    alerted = code == faults.FATAL_ALERT
    faults = None
    if unsaid:
        try:
            kind, alert = rarely("backends.probe_" + TLS).probe(settings)
        except MemoryError:  # too little is left for a second handshake: go by what is here
            kind, stage = ("dropped" if alerted else "closed"), "unasked"
    if not kind:
        return None
    ours: SecureMQTTError = rarely("kinds").explained(kind, code, alert, stage, settings)
    return ours


def _of_system(code: object, stage: str) -> str:
    """Name what an errno of the operating system's, or of the name resolver's, means."""
    if stage == "resolve":
        return "unresolved"
    if code == errno.ETIMEDOUT:
        return "silent"
    if code == errno.ECONNREFUSED:
        return "refused"
    # EHOSTUNREACH, ENETUNREACH and ENETDOWN; not all of them are in a board's errno.
    if code in (113, 101, 100, errno.EHOSTUNREACH):
        return "unreachable"
    return "closed"
