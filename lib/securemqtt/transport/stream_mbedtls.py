"""A board's TLS connection, which never blocks but where it says so, and makes few records of many
small writes.
"""

import errno
import select

from ..platform import const, now_ms

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..diagnosis.finding import Stage

# Packets that are ready together share a TLS record up to this size; mbedTLS on a board takes 4,096
# bytes at most.
RECORD_BYTES = const(512)
# How long a write may wait for a peer that does not read: less than any board's watchdog has.
_WRITE_MS = const(5000)
_HANDSHAKE_STEP_MS = const(20)


class Stream:
    """A TLS connection that collects what is written into one record per `flush`.

    umqtt's encoder writes into it as into a socket.
    """

    def __init__(self, context: "Any", alive: "Callable[[], None]") -> None:
        """`alive` is called while a long write gets on."""
        self._context = context
        self._alive = alive
        self._view = memoryview(bytearray(RECORD_BYTES))
        self._start = 0
        self.end = 0  # how much was collected, 0 once all of it is written
        self._stuck = 0
        # what ends the connection with the next `flush`
        self.broken: "OSError | MemoryError | None" = None
        self.raw: "Any" = None  # the socket; who connects it puts it here
        self._tls: "Any" = None
        self._poll = select.poll()
        # Where a failure happened, for the diagnosis: resolve, connect, handshake, connack,
        # session.
        self.stage: "Stage" = "resolve"

    def attach(self, host: str) -> None:
        """Put TLS on `raw`, which is connected.

        The handshake itself is driven by the first `flush`.
        """
        self._tls = self._context.wrap_socket(
            self.raw, server_hostname=host, do_handshake_on_connect=False
        )
        self._poll.register(self.raw, select.POLLIN)

    def write(self, data: "Any", size: "int | None" = None) -> None:
        """Collect the first `size` bytes of `data`; write out what does not fit, waiting for the
        peer with a deadline.

        Does not raise for the network's sake: what failed here comes out of the next `flush`.
        """
        count = len(data) if size is None else size
        done = 0
        while True:
            end = self.end
            part = min(count - done, RECORD_BYTES - end)
            self._view[end : end + part] = (
                data if part == len(data) else memoryview(data)[done : done + part]
            )
            self.end += part
            done += part
            if done == count or self.broken is not None:
                return
            try:
                self.drain(_WRITE_MS)
                self._alive()
            except (
                OSError,
                ValueError,
            ) as error:  # the latter: the broker's certificate is no good
                self.broken = error

    def flush(self) -> bool:
        """Write out what was collected as far as the peer takes it; return True if all of it
        went.
        """
        if self.broken is not None:
            raise self.broken
        while self._start < self.end:
            # A write that gave None has taken its record already: the same bytes must be offered
            # again, not one more or less.
            size = self._stuck or self.end - self._start
            written = self._tls.write(self._view[self._start : self._start + size])
            if written is None:
                self._stuck = size
                return False
            if not written:
                raise OSError(errno.ECONNRESET)
            self._stuck = 0
            self._start += written
        self._start = self.end = 0
        return True

    def drain(self, timeout_ms: int) -> None:
        """Write out all that was collected; OSError(ETIMEDOUT) if the peer does not take it within
        `timeout_ms`.
        """
        deadline = now_ms() + timeout_ms
        while not self.flush():
            if now_ms() > deadline:
                raise OSError(errno.ETIMEDOUT)
            self.wait(100, True)

    def discard(self) -> bool:
        """Throw away what is there, once all is written; return True if there was anything.

        OSError(ECONNRESET) when the peer has closed.
        """
        return self.readinto(self._view) > 0

    def readinto(self, buffer: memoryview) -> int:
        """Read what is there; 0 if nothing is. OSError(ECONNRESET) when the peer has closed."""
        count: "int | None" = self._tls.readinto(buffer)
        if count == 0:
            raise OSError(errno.ECONNRESET)
        return count or 0

    def wait(self, timeout_ms: int, writing: bool) -> bool:
        """Wait until the socket has something to read or, if `writing`, room to write; return True
        if it has within `timeout_ms`.

        Only after `readinto` gave 0: what mbedTLS holds does not show here. During the handshake,
        which may want either, at most 20 ms.
        """
        events = select.POLLIN
        if writing:
            if self.stage == "handshake":
                timeout_ms = min(timeout_ms, _HANDSHAKE_STEP_MS)
            else:
                events |= select.POLLOUT
        self._poll.modify(self.raw, events)
        for _ in self._poll.ipoll(timeout_ms):
            return True
        return False

    def close(self) -> None:
        """Drop the connection and what was not written; the next `opening` starts afresh."""
        if self._tls is not None:
            self._poll.unregister(self.raw)
        for sock in (self._tls, self.raw):
            if sock is not None:
                sock.close()
        self._tls = self.raw = None
        self._start = self.end = self._stuck = 0
        self.broken = None
