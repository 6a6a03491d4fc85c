"""What an error, or a probing connection, shows of what went wrong, before it is put into words."""

import errno

from ..errors import ConnectionLost, ConnectionRefused, NameNotResolved, NetworkError, TimedOut
from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Literal

    from ..errors import SecureMQTTError

    Stage = Literal["resolve", "connect", "handshake", "connack", "session"]
    Variant = Literal[
        "", "again", "alert", "certificate", "handshake", "connack", "keep_alive", "session",
        "unasked", "40", "42", "43", "45", "48",
    ]  # fmt: skip

# EHOSTUNREACH, ENETUNREACH and ENETDOWN; not all of them are in a board's errno.
_NO_WAY = (113, 101, 100, errno.EHOSTUNREACH)


class Finding:
    """What went wrong, as far as it shows.

    `error` is the class of the error, None for a mistake in a program. `code` is the raw number or
    text underneath. `variant` names a case that has words of its own, "" for those of the stage.

    `refused`: the broker ended the handshake of its own accord, with the TLS `alert`, or, if that
    is None, without a word. `unsaid`: it may have had a reason that does not show here.
    """

    def __init__(
        self,
        error: "type[SecureMQTTError] | None",
        code: object = None,
        variant: "Variant" = "",
        alert: "int | None" = None,
        refused: bool = False,
        unsaid: bool = False,
    ) -> None:
        self.error = error
        self.code = code
        self.variant: "Variant" = variant
        self.alert = alert
        self.refused = refused
        self.unsaid = unsaid


def of_system(code: object, stage: "Stage") -> "type[SecureMQTTError]":
    """Return the error's class for an errno of the system's, or for a code of the resolver's."""
    if stage == "resolve":
        return NameNotResolved
    if code == errno.ETIMEDOUT:
        return TimedOut
    if code == errno.ECONNREFUSED:
        return ConnectionRefused
    return NetworkError if code in _NO_WAY else ConnectionLost
