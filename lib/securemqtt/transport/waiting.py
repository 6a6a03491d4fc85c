"""Waiting for the network, or for whoever has something to send: on CPython."""

from __future__ import annotations

import select
import socket


class Waiting:
    """Waits for one file descriptor at a time, and for `wake`.

    Belongs to the thread that turns the loop, but for `wake`. `fd` and `events` are what was waited
    for last, `fd` -1 if that was `wake` alone; `wake_fd` can be read once somebody has called
    `wake`.
    """

    def __init__(self) -> None:
        self._woken = False
        self._was_woken = False  # within `wait`
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._wake_out, select.POLLIN)
        self.wake_fd = self._wake_out.fileno()
        self.fd = -1
        self.events = 0

    def wake(self) -> None:
        """End a wait in another thread."""
        if not self._woken:
            self._woken = True
            try:
                self._wake_in.send(b"\0")
            # so many threads at once that the buffer is full: that wakes, too
            except BlockingIOError:
                return

    def wait(self, fd: int, events: int, timeout_ms: int) -> bool:
        """Wait for `fd`, -1 for none, or `wake`; return True if `fd` is ready."""
        if fd != self.fd or events != self.events:
            self.forget()
            if fd >= 0:
                self._poll.register(fd, events)
            self.fd, self.events = fd, events
        ready = False
        for found, _ in self._poll.poll(max(timeout_ms, 0)):
            if found == self.fd:
                ready = True
            else:
                self._was_woken = True
                self.slept()
        return ready

    def was_woken(self) -> bool:
        """Return True if a `wait` has heard `wake` since this was asked last: what came with that
        may have come too late for the same turn.
        """
        woken, self._was_woken = self._was_woken, False
        return woken

    def slept(self) -> None:
        """Note that `wake` was heard."""
        try:
            self._wake_out.recv(64)
        except BlockingIOError:  # it was noted already
            return
        # Only now: whoever called `wake` before has put what he has where the next turn looks for
        # it.
        self._woken = False

    def forget(self) -> None:
        """Wait for `wake` alone: what was waited for is about to be closed."""
        if self.fd >= 0:
            self._poll.unregister(self.fd)
        self.fd = -1
        self.events = 0

    def close(self) -> None:
        """Close what `wake` needs; it is not called any more."""
        self._wake_out.close()
        self._wake_in.close()
