"""What `publish` returns where the message itself is not in memory's outbox, or not yet: a stand-in
that tells what becomes of it.
"""

from ..messages import Delivery
from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Protocol

    class Backlog(Protocol):
        """reading.Backlog, as far as it is seen from here; it imports this file."""

        def fate(self, number: int, gone_before: int) -> int:
            """Return what has become of a message that was left to the journal."""

        def parked(self, number: int) -> Delivery | None:
            """Return it if it is parked now."""

        def gone(self) -> int:
            """Count the messages that waited and will not be sent."""


class StandIn(Delivery):
    """A delivery with what another one was made with; each kind says what becomes of that one:
    `acknowledged`, `dropped`, `error`.
    """

    __slots__ = ()

    def __init__(self, delivery: Delivery) -> None:
        self.topic = delivery.topic
        self.payload = delivery.payload
        self.qos = delivery.qos
        self.retain = delivery.retain
        self.expires_ms = delivery.expires_ms
        self.stored = delivery.stored
        self.waiter = delivery.waiter
        self.awaited = False
        self.next = None


class Deferred(StandIn):
    """Where `publish` interrupts the client itself: `accepted` is put into the outbox later."""

    __slots__ = ("accepted",)

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery)
        self.accepted = delivery
        delivery.awaited = True  # perhaps

    @property
    def acknowledged(self) -> bool:  # type: ignore[override]
        """Whether the broker has taken it over."""
        return self.accepted.acknowledged

    @property
    def dropped(self) -> bool:  # type: ignore[override]
        """Whether it was given up."""
        return self.accepted.dropped

    @property
    def error(self) -> "Exception | None":  # type: ignore[override]
        """Why it is parked."""
        return self.accepted.error


class Left(StandIn):
    """Where the message is left to the journal."""

    __slots__ = ("_backlog", "_gone", "_verdict")

    def __init__(self, delivery: "Delivery", backlog: "Backlog") -> None:
        super().__init__(delivery)
        self._backlog = backlog
        self._gone = backlog.gone()
        self._verdict = 0  # once said, it stays

    @property
    def acknowledged(self) -> bool:  # type: ignore[override]
        """Whether the broker has taken it over."""
        return self._judged() > 0

    @property
    def dropped(self) -> bool:  # type: ignore[override]
        """Whether it was given up; see `Backlog.fate`."""
        return self._judged() < 0

    @property
    def error(self) -> "Exception | None":  # type: ignore[override]
        """Why it is parked."""
        delivery = self._backlog.parked(self.stored)
        return None if delivery is None else delivery.error

    def _judged(self) -> int:
        if not self._verdict:
            self._verdict = self._backlog.fate(self.stored, self._gone)
        return self._verdict
