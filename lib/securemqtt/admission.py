"""Admission: how what `publish` gives becomes part of the outbox, whoever is interrupted for it.

The outbox and its journal have one owner at a time: who holds the connection's lock. A thread that
publishes waits for it. A signal handler, or a board's callback, cannot wait for whom it interrupts,
and must not touch what that one has half changed: its message is deferred, and put into the outbox
once the interrupted one is done, by the next turn of the loop at the latest, before anything later.
"""

from .platform import const, temporary

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from .lifecycle import Owner
    from .messages import Delivery
    from .outbox.memory import Outbox


# How long `publish` waits for another thread to be done with the outbox.
_PATIENCE_S = const(30)


class Admission:
    """The way into an outbox, for one message at a time."""

    def __init__(self, owner: "Owner", outbox: "Outbox") -> None:
        self._owner = owner
        self._outbox = outbox
        self._lock = owner.lock
        self._lock.tell(self)
        # Messages for which there was no room among those deferred. Counted by who defers; the
        # outbox's own counters belong to who has the lock.
        self.overflowed = 0
        self._telling = False
        self._unfinished = False  # whether `admitted` has something to do
        # The last of those deferred that the outbox did not take; what was wrong with it if that
        # was not room; and whether there was none among those deferred.
        self._refused: "tuple[Delivery, Exception | None, bool] | None" = None

    def enqueue(
        self, delivery: "Delivery", newest_only: bool, now: int, sync: bool = True
    ) -> "Delivery | None":
        """Put a message into the outbox; return what to tell its sender by, None if refused.

        `sync`: and wait until it is in the storage, where each message is to be.

        Where this call interrupts who is at work there, that is done later: if the message is
        refused then, or too many are deferred already, it is `dropped`.
        Raise TimedOut if another thread holds the outbox too long.
        """
        outbox = self._outbox
        lock = self._lock
        if lock.interrupts():
            return self._defer(delivery, newest_only, now)
        if not lock.take(_PATIENCE_S):
            from .errors import TimedOut

            what = "the outbox was in use for {} s"
            raise TimedOut(what.format(_PATIENCE_S), variant="outbox")
        try:
            if lock.deferred:
                self.admit()
            idle = outbox.head is None
            accepted = outbox.put(delivery, newest_only, now)
            if accepted is None:
                outbox.dropped += 1
        finally:
            lock.give()
        if self._unfinished:
            self.admitted()
        if accepted is not None:
            if idle:
                self._owner.wake()
            if sync and outbox.sync_on_put:
                outbox.sync()
        return accepted

    def _defer(self, delivery: "Delivery", newest_only: bool, now: int) -> "Delivery":
        deferred = self._outbox.deferred(delivery)
        if not self._lock.defer((delivery, newest_only, now, deferred)):
            self.overflowed += 1
            delivery.dropped = True
            self._refused = delivery, None, True
            self._unfinished = True
        self._owner.wake()  # whom this interrupts may be about to wait with the lock
        return deferred

    # What the lock calls

    def admit(self) -> None:
        """Put into the outbox what was deferred; called with the lock held."""
        outbox = self._outbox
        waiting = self._lock.deferred
        while waiting:
            delivery, newest_only, now, deferred = waiting.popleft()
            self._unfinished = True
            accepted = error = None
            try:
                accepted = outbox.put(delivery, newest_only, now)
            except Exception as failed:  # noqa: BLE001  (whatever it is, `admitted` tells)
                error = failed
            finally:
                if accepted is None:
                    outbox.dropped += 1
                    delivery.dropped = True
                    self._lock.notify_all()
                    self._refused = delivery, error, False
                outbox.decided(deferred, accepted or delivery)

    def admitted(self) -> None:
        """Do what is due after `admit`; called when the lock is free again."""
        if not self._unfinished:
            return
        self._unfinished = False
        refused, self._refused = self._refused, None
        try:
            self._owner.wake()
            if self._outbox.sync_on_put:
                self._outbox.sync()
            # What a log function publishes of it meanwhile, and is refused, is counted only.
            if refused is not None and not self._telling:
                self._telling = True
                with temporary():
                    from . import lifecycle

                    lifecycle.refused_late(self._owner, *refused)
                self._telling = False
        except MemoryError as error:
            self._telling = False
            self._owner.last_error = error
