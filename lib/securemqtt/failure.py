"""The way from a fault to its error: loads the tree and the words only when there is something to
say.
"""

from ._compat import TYPE_CHECKING, rarely

if TYPE_CHECKING:
    from typing import Any

    from .errors import SecureMQTTError


def failure(name: str, what: str, code: object = None) -> "SecureMQTTError":
    """Make the error of class `name`: `what` happened in a few words, `code` is the raw number or
    text. To be raised by the caller.
    """
    error: "SecureMQTTError" = rarely("diagnose").explain(name, what, code)
    return error


def translated(
    error: BaseException, stage: str, settings: "dict[str, Any]"
) -> "SecureMQTTError | None":
    """Make our error of a foreign one (OSError, ValueError, MemoryError, ssl.SSLError) that came up
    in `stage`.

    `stage` is "resolve", "connect", "handshake", "connack" or "session". None when it is one of
    ours already, or none of the network's, the TLS library's or the heap's, so a mistake in a
    program: it goes on as it is.
    """
    try:
        ours: "SecureMQTTError | None" = rarely("faults").translated(error, stage, settings)
    except MemoryError:
        return exhausted()
    return ours


def exhausted() -> "SecureMQTTError":
    """Make OutOfMemory where there may be no room for the words."""
    from .errors import OutOfMemory

    return OutOfMemory()


def unreadable(path: str, content: bytes, text: str) -> "SecureMQTTError":
    """Make the error of a certificate or key that the TLS library would not load: wrong encoding,
    truncated, or not what it should be.
    """
    ours: "SecureMQTTError" = rarely("encoding").unreadable(path, content, text)
    return ours


def refused(return_code: int, settings: "dict[str, Any]") -> "SecureMQTTError":
    """Make the error of a CONNACK with a return code other than 0 (MQTT 3.1.1, table 3.1)."""
    ours: "SecureMQTTError" = rarely("diagnose").refused(return_code, settings)
    return ours


def base() -> "type[SecureMQTTError]":
    """Return the base class of our errors, for an `except` clause: Python evaluates it only once
    something was raised.
    """
    from .errors import SecureMQTTError

    return SecureMQTTError
