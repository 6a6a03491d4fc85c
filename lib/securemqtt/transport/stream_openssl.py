"""A TLS connection of CPython that never blocks: resolve, connect, handshake as steps, then buffers
in both directions.

OpenSSL works on memory buffers here, and the socket is read and written apart from it: one system
call takes however many records have come, and what was collected during a turn leaves in one. No
write has a half-way state that would have to be repeated, and each wait is the caller's, who has a
deadline and can be woken.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from ..platform import now_ms
from ..settings import Settings
from .websocket import WebSocket

if TYPE_CHECKING:
    from ..diagnosis.finding import Stage

_READ_BYTES = 65_536
# An address that does not answer must leave time for the next one; more than this many are not
# tried in one attempt.
_ADDRESSES = 4
# A broker that leaves Nagle's algorithm on (Mosquitto does) holds back its second PUBACK until the
# first is acknowledged by TCP, for which Linux takes 40 ms unless told otherwise after each read: 5
# messages took 44 ms, and 1 ms with this.
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)

T = TypeVar("T")
# Yields what to wait for (select.POLLIN, select.POLLOUT, or 0) and gives its result when it ends.
Steps = Generator[int, None, T]


class Stream:
    """One device's connection: `write` collects, `flush` sends as far as the peer takes it,
    `readinto` gives what came.

    OSError (ssl.SSLError is one) and ValueError leave it as they are; `stage` says where they came
    up.
    """

    def __init__(
        self, settings: Settings, context: ssl.SSLContext, wake: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._host, self._port = settings.host, settings.port
        self.context = context
        self._wake = wake
        self._timeout_ms = int(settings.connect_timeout_s * 1000)
        self._websocket = WebSocket(settings) if settings.transport == "wss" else None
        self._lookup: Lookup | None = None
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._clear = bytearray()
        self._unsent = memoryview(b"")
        self._at_end = False  # the peer has ended its side of TCP
        self._fault: OSError | None = None
        self._session: ssl.SSLSession | None = None
        self._session_ends_s = 0.0
        self.stage: Stage = "resolve"
        self.peer = (self._host, self._port)  # by its address, once there was a connection
        # Whether the broker has shown, on the last connection, that it takes our certificate.
        self.accepted = False
        self.sent_bytes = 0

    def fileno(self) -> int:
        """Return the file descriptor to wait on; -1 while there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def events(self) -> int:
        """Return what to wait for on an open connection: input always, room for output while some
        is left.
        """
        return select.POLLIN | select.POLLOUT if self._unsent else select.POLLIN

    def unsent(self) -> int:
        """Return how many bytes were written and not yet taken by the peer's side of the
        network.
        """
        return len(self._clear) + len(self._unsent)

    def ended(self) -> bool:
        """Return True if all that the peer sent has been read, and the end has come: the next
        `readinto` says how.
        """
        return self._fault is not None

    # Opening

    def opening(self) -> Steps[None]:
        """Open the connection, in steps: yields what to wait for on `fileno()`, 0 where only `wake`
        ends the wait.
        """
        self.stage = "resolve"
        self.accepted = False
        settings = self._settings
        if (self._host, self._port) != (settings.host, settings.port):
            self._host, self._port = settings.host, settings.port
            self._session = self._lookup = None  # of the broker before
        addresses = yield from self._resolve()
        self.stage = "connect"
        self._socket = yield from self._connect_any(addresses[:_ADDRESSES])
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stage = "handshake"
        yield from self._shake_hands()
        if self._websocket is not None:
            yield from self._upgrade(self._websocket)
        self.stage = "connack"

    def _resolve(self) -> Steps[list[Any]]:
        try:
            return socket.getaddrinfo(
                self._host, self._port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
            )
        except (socket.gaierror, UnicodeError):
            pass
        # One that an earlier attempt gave up on may still be under way: its answer is as good.
        lookup = self._lookup
        if lookup is None:
            lookup = self._lookup = Lookup(self._host, self._port, self._wake)
            lookup.start()
        while not lookup.finished:
            yield 0
        self._lookup = None
        return lookup.result()

    def _connect_any(self, addresses: list[Any]) -> Steps[socket.socket]:
        failed: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
        deadline_ms = now_ms() + self._timeout_ms
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            share_ms = (deadline_ms - now_ms()) // (len(addresses) - index)
            self._socket = sock = socket.socket(family, kind, protocol)
            try:
                yield from self._connect(sock, address, now_ms() + share_ms)
                self.peer = address[:2]
                return sock
            except OSError as error:
                failed = error
                sock.close()
        raise failed

    def _connect(self, sock: socket.socket, address: Any, deadline_ms: int) -> Steps[None]:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect")
        while now_ms() < deadline_ms:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "connect")
            try:
                sock.getpeername()
                return
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
            yield select.POLLOUT
        raise OSError(errno.ETIMEDOUT, "connect")

    def _shake_hands(self) -> Steps[None]:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._at_end = False
        # A resumed handshake shows no certificate: a session is not used beyond the validity of the
        # one that it stands for.
        session = self._session if time.time() < self._session_ends_s else None
        self._session = None  # `close` takes the next one once this connection has proved good
        self._tls = tls = self.context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=self._host, session=session
        )
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                yield from self._exchange()
                if self._at_end:
                    self._incoming.write_eof()
            except ssl.SSLError:
                self._send()  # the alert that tells the peer why
                raise
        # now, since a connection that broke does not show it any more
        certificate = tls.getpeercert()
        ends = certificate.get("notAfter") if certificate else None
        self._session_ends_s = ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else 0.0
        while not self._send():
            yield select.POLLOUT

    def _upgrade(self, websocket: WebSocket) -> Steps[None]:
        self._encrypt(websocket.request())
        answer = memoryview(bytearray(1024))
        while not websocket.answered(bytes(answer[: self._read(answer)])):
            yield from self._exchange()

    def _exchange(self) -> Steps[None]:
        """Send what there is, then wait for something from the peer."""
        while not self._send():
            yield select.POLLOUT
        while not self._receive():
            yield select.POLLIN

    # Carrying

    def write(self, data: bytes | bytearray) -> None:
        """Collect bytes for the next `flush`."""
        self._clear += data

    def flush(self) -> bool:
        """Send what was collected, in few records, as far as it goes now; return True if all of it
        went.
        """
        if self._clear:
            self._encrypt(
                self._clear if self._websocket is None else self._websocket.frame(self._clear)
            )
            self._clear.clear()
        return self._send()

    def readinto(self, buffer: memoryview) -> int:
        """Read what is there; 0 if nothing is. ConnectionResetError when the peer has closed."""
        websocket = self._websocket
        if websocket is None:
            return self._read(buffer)
        if not websocket.payload:
            scratch = memoryview(bytearray(_READ_BYTES))
            websocket.feed(scratch[: self._read(scratch)])
            if websocket.reply:
                self._encrypt(websocket.reply)
                websocket.reply.clear()
        return websocket.readinto(buffer)

    def close(self, good: bool) -> None:
        """Drop the connection.

        After a `good` one, its TLS session is offered in the next handshake.
        """
        if good and self._tls is not None:
            # It is for this host (see `opening`), trust and identity (see make_context).
            self._session = self._tls.session
        if self._tls is not None and self.stage in ("connack", "session"):
            # The handshake of TLS 1.2 ends with that; in 1.3 the broker goes on to send tickets
            # once it has looked at our certificate (RFC 8446, section 4.6.1).
            session = self._tls.session
            old = self._tls.version() == "TLSv1.2"
            self.accepted = old or bool(session and session.has_ticket)
        if self._socket is not None:
            self._socket.close()
        self._socket = self._tls = self._fault = None
        self._clear.clear()
        self._unsent = memoryview(b"")

    def disown(self) -> None:
        """Close the parent's socket in a forked child, and touch nothing else: the parent's thread
        may have been in the middle of anything.
        """
        if self._socket is not None:
            self._socket.close()

    def _encrypt(self, data: bytes | bytearray) -> None:
        tls = self._tls
        if tls is None:
            raise ConnectionResetError("not connected")
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += tls.write(view[done:])

    def _send(self) -> bool:
        """Pass records to the socket; return True if it took all there are."""
        sock = self._socket
        if sock is None:
            raise ConnectionResetError("not connected")
        while self._unsent or self._outgoing.pending:
            if not self._unsent:
                self._unsent = memoryview(self._outgoing.read())
            try:
                sent = sock.send(self._unsent)
            except BlockingIOError:
                return False
            except OSError:
                self._raise_alert()
                raise
            self._unsent = self._unsent[sent:]
            self.sent_bytes += sent
        return True

    def _read(self, buffer: memoryview) -> int:
        """Fill `buffer` with what is there in clear, taking from the socket once OpenSSL has no
        more.
        """
        tls = self._tls
        if tls is None:
            raise ConnectionResetError("not connected")
        if self._fault is not None:
            raise self._fault
        total = 0
        received = False
        while total < len(buffer):
            try:
                # The stubs do not know that it gives a count where there is a buffer.
                count: int = tls.read(len(buffer) - total, buffer[total:])  # type: ignore[assignment]
                if not count:
                    raise ssl.SSLZeroReturnError
                total += count
            except ssl.SSLWantReadError:
                if self._at_end:
                    # OpenSSL is not told: without a close_notify it would let go of the TLS
                    # session. MQTT needs none, its packets have their lengths.
                    self._fault = ConnectionResetError(errno.ECONNRESET, "closed by the peer")
                    break
                if received or not self._receive():
                    break
                received = True
            except OSError as error:
                closed = isinstance(error, (ssl.SSLZeroReturnError, ssl.SSLEOFError))
                self._fault = (
                    ConnectionResetError(errno.ECONNRESET, "closed by the peer")
                    if closed
                    else error
                )
                if not total:
                    raise self._fault from error
                break
        if self._fault is not None and not total:
            raise self._fault
        return total

    def _receive(self) -> bool:
        """Take what the socket has, once; return True if there was anything, its end included."""
        sock = self._socket
        if sock is None:
            raise ConnectionResetError("not connected")
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._incoming.write(data)
            if _QUICKACK is not None:
                sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        else:
            self._at_end = True
        return True

    def _raise_alert(self) -> None:
        """Raise the alert that the peer sent before it closed, if any: it says more than the write
        that failed.
        """
        if self._tls is not None:
            try:
                self._receive()
                self._tls.read(1)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return
            except ssl.SSLError:
                raise
            except OSError:
                return


class Lookup(threading.Thread):
    """A look-up of a name that can be given up: getaddrinfo itself knows no time-out."""

    def __init__(self, host: str, port: int, done: Callable[[], None]) -> None:
        super().__init__(name="securemqtt-lookup", daemon=True)
        self._name_and_port = (host, port)
        self._done = done
        self._addresses: list[Any] = []
        self._error: OSError | None = None
        self.finished = False

    def run(self) -> None:
        try:
            self._addresses = socket.getaddrinfo(*self._name_and_port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: what cannot be a name at all
            self._error = (
                error
                if isinstance(error, OSError)
                else socket.gaierror(socket.EAI_NONAME, str(error))
            )
        finally:
            self.finished = True
            self._done()

    def result(self) -> list[Any]:
        """Return the addresses, or raise what the look-up failed with."""
        if self._error is not None:
            raise self._error
        return self._addresses
