"""What becomes of a client when its process is forked, or ends: on a computer only."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from .errors import UsageError
from .log import log

if TYPE_CHECKING:
    from .platform import Lock
    from .settings import Settings


class Counting(Protocol):
    """An outbox, as far as it is seen from here."""

    @property
    def count(self) -> int:
        """How many messages are not acknowledged."""


class Owner(Protocol):
    """A client's connection, as far as it is seen from here."""

    settings: Settings
    lock: Lock
    state: Any  # "closed", or how the connection stands
    inherited: bool
    told: int

    @property
    def outbox(self) -> Counting:
        """What waits for the broker."""


class Mortal(Protocol):
    """What belongs to its process."""

    def disown(self) -> None:
        """Let go of all that is the parent's: this process was forked, and is the child."""


_mortal: weakref.WeakSet[Mortal] = weakref.WeakSet()
_leaving: weakref.WeakSet[Process] = weakref.WeakSet()


def disown_in_children(one: Mortal) -> None:
    """Have `disown` called in each process that is forked from this one."""
    _mortal.add(one)


def _forked() -> None:
    _leaving.clear()
    for one in list(_mortal):
        one.disown()
    _mortal.clear()


def _ending() -> None:
    for one in list(_leaving):
        one.ended()


# Now: what the program itself has done at its end comes first then, a `flush` for one.
atexit.register(_ending)
os.register_at_fork(after_in_child=_forked)


class Process:
    """What becomes of a client when its process is forked, or ends."""

    def __init__(self, connection: Owner) -> None:
        self._connection = connection
        disown_in_children(self)
        _leaving.add(self)

    def disown(self) -> None:
        """Leave all to the parent: this process was forked from the client's, and is the child."""
        connection = self._connection
        connection.inherited = True
        connection.state = "closed"
        connection.lock.disown(refuse_in_child)

    def ended(self) -> None:
        """Say how much is not acknowledged as the program ends, unless `finish` has."""
        connection = self._connection
        count = connection.outbox.count
        if count and (connection.state != "closed" or count != connection.told):
            lost = "they are lost"
            if connection.settings.outbox == "durable":
                lost = "those in storage are there for the next start"
            what = "the program ends, and {} messages are not acknowledged: {}. flush() waits."
            log("warning", what.format(count, lost))


def refuse_in_child() -> NoReturn:
    """Raise UsageError."""
    raise UsageError(
        "this client belongs to the process that this one was forked from",
        cause="two processes cannot share a connection and an outbox",
        remedy="make a Client in the process that uses it, after the fork",
    )
