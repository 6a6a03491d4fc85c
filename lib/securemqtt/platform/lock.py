"""CPython's lock of a connection: its loop's thread, the program's, and signal handlers share it.

MicroPython's, for callbacks, is in micropython.py.
"""

from __future__ import annotations

import _thread
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:

    class _RLock:
        """What an RLock has for `threading.Condition`, which typeshed leaves out."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *exc: object) -> None: ...
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def _is_owned(self) -> bool: ...
        def _release_save(self) -> object: ...
        def _acquire_restore(self, held: object) -> None: ...

else:
    from _thread import RLock as _RLock

# How many messages signal handlers may publish while they interrupt the client itself.
_DEFERRED = 1000


class Admitting(Protocol):
    """Who does what signal handlers want of what a lock guards."""

    def admit(self) -> None:
        """Take in what waits; called with the lock held."""

    def admitted(self) -> None:
        """Tell of what was taken in; called without it."""


class Lock(_RLock):
    """What it guards has one owner at a time: a thread, and within it one piece of work.

    Ctrl-C may strike between any two steps of Python code. So what `with` calls is the RLock's own,
    in C: there is no step between having it and being in the block, nor before letting go. For the
    same reason nobody waits with it in hand, as `threading.Condition` does.

    A signal handler cannot wait for the very thread that it interrupts, and must leave alone what
    that one may have half changed. Where `interrupts` is true for it, it calls `defer`, and wakes
    who turns the loop: there, or by who publishes next, what was deferred is admitted.
    """

    def __init__(self) -> None:
        self._admission: Admitting | None = None
        self._beside: Lock | None = None
        # Each is held, and let go of once something has changed.
        self._waiting: list[_thread.LockType] = []
        self.deferred: deque[Any] = deque()

    def tell(self, admission: Admitting) -> None:
        """Have `admission` told when something was deferred."""
        self._admission = admission

    def go_with(self, other: Lock) -> None:
        """Treat who has the `other` lock as one who has this.

        It is one that is held for longer, to wait for the storage. Who gives it back calls
        `settle`.
        """
        self._beside = other

    def interrupts(self) -> bool:
        """Return True if this thread has the lock already: this call comes amid its work."""
        # No count of ours could say so: a signal may come between acquiring and counting.
        return self._is_owned() or (self._beside is not None and self._beside.interrupts())

    def take(self, timeout_s: int) -> bool:
        """Take hold of the lock; return True if that succeeds in time. Then `give` is due."""
        return self.acquire(True, timeout_s)

    def give(self) -> None:
        """Let go of the lock."""
        self.release()
        if self.deferred:
            self.settle()

    def defer(self, entry: object) -> bool:
        """Note what whom this call interrupts is to admit; return False if too many wait."""
        if len(self.deferred) >= _DEFERRED:
            return False
        self.deferred.append(entry)
        return True

    def settle(self) -> None:
        """Have admitted what was deferred, unless this call comes amid work with the lock."""
        admission = self._admission
        if admission is None or self.interrupts():
            return
        while self.deferred:
            with self:
                admission.admit()
        admission.admitted()

    def notify_all(self) -> None:
        """Have all who wait look at their conditions again; called with the lock held."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.release()

    def wait_until(self, condition: Callable[[], Any], timeout_s: float) -> bool:
        """Block until `condition` holds, which is looked at with the lock held.

        Return True if it does in time.
        """
        deadline = time.monotonic() + timeout_s
        with self.laid_aside():
            while True:
                if self.deferred:
                    self.settle()
                changed = _thread.allocate_lock()
                changed.acquire()
                with self:
                    if condition():
                        return True
                    self._waiting.append(changed)
                left = deadline - time.monotonic()
                if left <= 0 or not changed.acquire(timeout=left):
                    with self:
                        if changed in self._waiting:
                            self._waiting.remove(changed)
                    if left <= 0:
                        return False

    @contextmanager
    def laid_aside(self) -> Iterator[None]:
        """Let go of the lock for a while, where a signal handler waits for other threads amid this
        one's own work.
        """
        if not self._is_owned():
            yield
            return
        held = self._release_save()
        try:
            yield
        finally:
            self._acquire_restore(held)

    def disown(self, refuse: Callable[[], NoReturn]) -> None:
        """Have `refuse` called for whoever takes hold of the lock from now on, in a forked child.

        The thread that held it may be gone.
        """
        self._beside = None
        self.refuse = refuse
        self.__class__ = _Disowned


class _Disowned(Lock):
    """What a lock of another process becomes."""

    refuse: Callable[[], NoReturn]

    def __enter__(self) -> bool:
        self.refuse()

    def __exit__(self, *exc: object) -> None:
        """Do nothing: it was taken before this process was forked."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.refuse()

    def release(self) -> None:
        """Do nothing: it was taken before this process was forked."""

    def interrupts(self) -> bool:
        """Return False, whatever the parent's thread had."""
        return False
