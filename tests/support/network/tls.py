"""TLS for the tests' own clients, of which many live in one thread."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

_Result = TypeVar("_Result")
_READ_BYTES = 65_536


class TlsConnection:
    """A TLS client on a connected socket, as `ssl.SSLSocket` in what it offers; the system calls
    are its own.

    Where those are OpenSSL's (3.4 and later), CPython leaves an error of a connection that broke to
    the next call of the thread, on whatever connection: github.com/python/cpython/issues/148594.
    """

    def __init__(
        self,
        plain: socket.socket,
        context: ssl.SSLContext,
        *,
        server_hostname: str,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname, session=session
        )
        self._do(self._tls.do_handshake)

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session, to be resumed later."""
        return self._tls.session

    def version(self) -> str | None:
        """Return the version of TLS that was agreed upon."""
        return self._tls.version()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the socket below."""
        self._plain.setsockopt(level, option, value)

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            view = view[self._do(partial(self._tls.write, view)) :]

    def recv(self, count: int) -> bytes:
        """Return what comes next; nothing at the peer's end, in order or not."""
        try:
            return self._do(partial(self._tls.read, count))
        except ssl.SSLEOFError:
            return b""

    def close(self) -> None:
        """Close without a word."""
        self._plain.close()

    def _do(self, step: Callable[[], _Result]) -> _Result:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._send()
                data = self._plain.recv(_READ_BYTES)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                with suppress(OSError):
                    self._send()  # the alert that says why
                raise
            else:
                self._send()
                return result

    def _send(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())
