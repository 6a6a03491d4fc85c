"""A connection in memory, with the device's real client and backend on one end, under a clock of
the test's own.

What it stands in for is the TLS socket alone, so that thousands of histories take seconds and a
seed repeats each of them, on both interpreters. The same backends meet real sockets, real TLS and
real brokers in tests/contract and tests/faults.
"""

import errno
import socket
import sys

from securemqtt.diagnosis.finding import Finding
from securemqtt.errors import ConnectionLost

MICROPYTHON = sys.implementation.name == "micropython"
# What a world's wall clock begins with.
UNIX_S = 1800000000


class Wire:
    """One connection: bytes on their way up to the broker and down to the device."""

    def __init__(self, now_ms: int) -> None:
        self.up = bytearray()
        self.down = bytearray()
        self.heard_ms = now_ms  # when the device last read something
        self.read_bytes = 0
        # the network has dropped it; the device sees that when it has read the rest
        self.lost = False
        self.stuck = False  # the network takes nothing from the device
        self.was_stuck = False
        self.leaving = False  # the device has written DISCONNECT: the broker closes
        self.ended_ms = None  # when the device closed it
        self.allowed = 0  # how many bytes may still come down

    def readable(self) -> int:
        return min(len(self.down), self.allowed)


class World:
    """A clock, a network that has the broker or not, and the connection there was last; `with` puts
    it in the real one's place.
    """

    def __init__(self) -> None:
        self.now_ms = 1000000  # monotonic; the wall clock goes with it
        self.reachable = True
        self.last = None  # the last connection
        self.attempted_ms = 0  # when the device began its last attempt to connect
        # What the test wants to hear of: a connection made, or closed by the device; bytes written,
        # or read.
        self.on_connect = lambda: None
        self.on_end = lambda: None
        self.on_write = lambda data: None
        self.on_read = lambda: None

    @property
    def unix_s(self) -> int:
        return UNIX_S + self.now_ms // 1000

    @property
    def wire(self) -> "Wire | None":
        """The connection that the device has now."""
        return self.last if self.last is not None and self.last.ended_ms is None else None

    def __enter__(self) -> "World":
        self._patches = install(self)
        return self

    def __exit__(self, *exc: object) -> None:
        for undo in self._patches:
            undo()

    def connect(self) -> Wire:
        """Open a connection, or raise what a board gets from its network."""
        if not self.reachable:
            raise OSError(errno.ECONNREFUSED, "refused")
        self.last = Wire(self.now_ms)
        self.on_connect()
        return self.last

    def end(self, wire: Wire) -> None:
        """The device has closed a connection."""
        if wire.ended_ms is None:
            wire.ended_ms = self.now_ms
            self.on_end()

    def write(self, wire: Wire, data: bytes) -> None:
        """The device has written."""
        wire.up += data
        self.on_write(data)

    def read(self, wire: Wire, limit: int) -> bytes:
        """The device reads up to `limit` bytes; nothing if nothing is there; OSError at the end of
        a lost connection.
        """
        count = min(limit, wire.readable())
        if not count:
            if wire.leaving or (wire.lost and not wire.down):
                raise OSError(errno.ECONNRESET, "reset")
            return b""
        data = bytes(wire.down[:count])
        wire.down = wire.down[count:]
        wire.allowed -= count
        wire.read_bytes += count
        wire.heard_ms = self.now_ms
        self.on_read()
        return data


class _Probe:
    """Stands in for transport/probe_*.py: there is nobody to ask."""

    def probe(self, *arguments: object) -> Finding:
        return Finding(ConnectionLost)


if MICROPYTHON:
    import time

    from securemqtt.platform import micropython as _side

    _EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0

    class _Time:
        """MicroPython's `time`, with the world's clocks; ticks go on from where they are, since the
        library's own clock never goes back.
        """

        def __getattr__(self, name: str) -> object:
            return getattr(time, name)

        def enter(self, world: World) -> None:
            self._ahead_ms = _side.time.ticks_ms() - world.now_ms
            self._world = world

        def ticks_ms(self) -> int:
            return self._world.now_ms + self._ahead_ms

        def time(self) -> int:
            return self._world.unix_s - _EPOCH_S

    # One for all worlds: a module that stays keeps the one that it has met first.
    _clock = _Time()

    class _Tls:
        """A TLS socket of MicroPython's, with its ways: a write that gives None has taken its
        record, and wants the same bytes again.
        """

        def __init__(self, world: World, wire: Wire) -> None:
            self._world = world
            self._wire = wire
            self._taken = None

        def write(self, data: memoryview) -> "int | None":
            wire = self._wire
            if wire.lost:
                raise OSError(errno.ECONNRESET)
            content = bytes(data)
            assert self._taken is None or self._taken == content, (
                "other bytes than those that were taken already"
            )
            if wire.stuck:
                self._taken = content
                self._world.now_ms += 20
                return None
            self._taken = None
            self._world.write(wire, content)
            return len(content)

        def readinto(self, buffer: memoryview) -> "int | None":
            data = self._world.read(self._wire, len(buffer))
            buffer[: len(data)] = data
            return len(data) or None

        def close(self) -> None:
            self._world.end(self._wire)

    class _Network:
        """MicroPython's `socket` and `tls`: what is connected is a socket that `select` takes, and
        what TLS gives is a `Wire`.
        """

        AF_INET = socket.AF_INET
        SOCK_STREAM = socket.SOCK_STREAM
        PROTOCOL_TLS_CLIENT = CERT_REQUIRED = verify_mode = 0

        def __init__(self, world: World) -> None:
            self._world = world

        def getaddrinfo(self, host: str, port: int, *hints: int) -> "list[object]":
            self._world.attempted_ms = self._world.now_ms
            return [
                (
                    socket.AF_INET,
                    socket.SOCK_DGRAM,
                    0,
                    "",
                    socket.getaddrinfo("127.0.0.1", 9)[0][-1],
                )
            ]

        def socket(self, *kind: int) -> object:
            self._world.connect()
            return socket.socket(*kind)

        def SSLContext(self, protocol: int) -> "_Network":
            return self

        def set_ciphers(self, suites: "list[str]") -> None:
            pass

        def load_verify_locations(self, anchor: bytes) -> None:
            pass

        def wrap_socket(self, raw: object, **options: object) -> object:
            return _Tls(self._world, self._world.last)

    def install(world: World) -> "list[object]":
        """Give the library this world; return how to undo that: by nothing, a process of
        MicroPython's has tests of one kind only.
        """
        _clock.enter(world)
        _side.time = sys.modules["time"] = _clock
        sys.modules["socket"] = sys.modules["tls"] = _Network(world)
        sys.modules["securemqtt.transport.probe_mbedtls"] = _Probe()
        return []

else:
    import select
    import time
    from unittest import mock

    from securemqtt import face as _face
    from securemqtt.platform import cpython as _cpython
    from securemqtt.transport import paho as _paho

    class _Time:
        """Python's `time`, with the world's clocks."""

        def __init__(self, world: World) -> None:
            self._world = world

        def __getattr__(self, name: str) -> object:
            return getattr(time, name)

        def monotonic_ns(self) -> int:
            return self._world.now_ms * 1000000

        def time(self) -> float:
            return self._world.unix_s

    class _Stream:
        """Stands in for transport/stream_openssl.Stream."""

        world = World()

        def __init__(self, settings: object, context: object, wake: object) -> None:
            self._wire = None
            self._buffer = bytearray()
            self._always, other = socket.socketpair()
            other.send(b"-")
            other.close()
            self.stage = "resolve"
            self.sent_bytes = 0
            self.context, self.peer, self.accepted = context, ("", 0), False

        def fileno(self) -> int:
            return self._always.fileno() if self._wire else -1

        def events(self) -> int:
            return select.POLLIN

        def unsent(self) -> int:
            return len(self._buffer)

        def ended(self) -> bool:
            return False

        def opening(self) -> object:
            self.world.attempted_ms = self.world.now_ms
            return self._steps()

        def _steps(self) -> object:
            self.stage = "connect"
            yield select.POLLOUT
            self._wire = self.world.connect()
            self.stage = "connack"

        def write(self, data: bytes) -> None:
            self._buffer += data

        def flush(self) -> bool:
            wire = self._wire
            if wire.lost:
                raise OSError(errno.ECONNRESET, "reset")
            if wire.stuck:
                return not self._buffer
            data = bytes(self._buffer)
            self._buffer.clear()
            self.sent_bytes += len(data)
            self.world.write(wire, data)
            return True

        def readinto(self, buffer: memoryview) -> int:
            data = self.world.read(self._wire, len(buffer))
            buffer[: len(data)] = data
            return len(data)

        def close(self, good: bool) -> None:
            if self._wire:
                self.world.end(self._wire)
            self._wire = None
            self._buffer.clear()

    class _Loop:
        """The loop as MicroPython has it: the caller's own thread turns it.

        It does not pause: the test's clock is not its to move.
        """

        patience_ms = 5000

        def __init__(self, connection: object) -> None:
            self._connection = connection

        def start(self) -> None:
            pass

        def stop(self, finish: object) -> None:
            finish()

        def wake(self) -> None:
            pass

        def notify(self, delivery: object) -> None:
            pass

        def wait_for(self, condition: object, timeout_ms: int) -> bool:
            if self._connection.state != "closed":
                self._connection.turn(0)
            return condition()

    def install(world: World) -> "list[object]":
        """Give the library this world; return how to undo that."""
        stream = type("Stream", (_Stream,), {"world": world})
        patches = [
            mock.patch.object(_cpython, "time", _Time(world)),
            mock.patch.object(_face, "Loop", _Loop),
            mock.patch.multiple(
                _paho,
                Stream=stream,
                make_context=lambda settings: None,
                probe=_Probe().probe,
            ),
        ]
        for patch in patches:
            patch.start()
        return [patch.stop for patch in patches]
