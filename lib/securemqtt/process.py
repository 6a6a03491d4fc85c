"""What becomes of a client when its process is forked, or ends: on a computer only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from .errors import UsageError
from .log import log
from .platform import disown_in_children, ended_at_exit

if TYPE_CHECKING:
    from .lifecycle import Owner


class Process:
    """What becomes of a client when its process is forked, or ends."""

    def __init__(self, connection: Owner) -> None:
        self._connection = connection
        disown_in_children(self)
        ended_at_exit(self)

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
                lost = "they are in the outbox, for the next start"
            what = "the program ends, and {} messages are not acknowledged: {}. flush() waits."
            log("warning", what.format(count, lost))


def refuse_in_child() -> NoReturn:
    """Raise UsageError."""
    raise UsageError(
        "this client belongs to the process that this one was forked from",
        cause="two processes cannot share a connection and an outbox",
        remedy="make a Client in the process that uses it, after the fork",
    )
