"""Messages that came before their subscription was made, in a session that the broker has kept.

They wait for it for a while, unacknowledged.

Loaded with inbox.py, whose lock guards this; no clock is read here.
"""

from .platform import EARLY_BYTES, const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import Message

# What a message costs beside topic and payload, for the bounds in bytes.
_MESSAGE_BYTES = const(128)
# So many may wait: brokers have 20 or so on their way.
_EARLY_MESSAGES = const(20)


def size_of(message: "Message") -> int:
    """Return what a message counts against the bounds in bytes."""
    return len(message.payload) + len(message.topic) + _MESSAGE_BYTES


class Early:
    """The messages of one connection that wait for a subscription, oldest first."""

    def __init__(self) -> None:
        self.messages: "list[Message]" = []
        self._bytes = 0
        self._until_ms = 0  # when there is nothing to wait for any more

    def begin(self, until_ms: int) -> None:
        """Note that a connection stands: what comes may wait until `until_ms`, unless that is 0.

        The first time that is not 0 counts, until `end`: what comes on a later connection finds the
        subscriptions made.
        """
        self._until_ms = self._until_ms or until_ms

    def end(self) -> None:
        """Have nothing wait any more: the program leaves, and has said what it wants."""
        self._until_ms = 0

    def may_wait(self, message: "Message", now: int) -> bool:
        """Return True if a message that no subscription is for is to be kept here."""
        return (
            now < self._until_ms
            and len(self.messages) < _EARLY_MESSAGES
            and self._bytes + size_of(message) <= EARLY_BYTES
        )

    def keep(self, message: "Message") -> None:
        """Have a message wait for its subscription."""
        self.messages.append(message)
        self._bytes += size_of(message)

    def take(self, wanted: "Callable[[Message], bool]") -> "list[Message]":
        """Return those that are `wanted`, which do not wait any more."""
        found = [message for message in self.messages if wanted(message)]
        for message in found:
            self.remove(message)
        return found

    def overdue(self, now: int) -> "Message | None":
        """Return the first one that has waited long enough."""
        return self.messages[0] if self.messages and now >= self._until_ms else None

    def remove(self, message: "Message") -> None:
        """Have a message not wait any more."""
        self.messages.remove(message)
        self._bytes -= size_of(message)
