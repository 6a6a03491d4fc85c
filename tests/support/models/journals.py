"""A durable outbox without its client, and files of its journal that fail at will, for tests on
both interpreters.

Each restart is without a farewell, as by a kill.
"""

import os

from securemqtt.messages import Delivery
from securemqtt.outbox.durable import DurableOutbox
from securemqtt.platform import Lock, now_ms
from support.interpreters.either import directory

_EIO = 5


class Options:
    """What a durable outbox reads of a client's settings."""

    path = ""
    outbox_fsync = "each"
    outbox_interval_s = 0.01
    outbox_journal_bytes = 65536
    outbox_messages = 1000
    outbox_bytes = 1 << 20
    outbox_full = "refuse"
    clock_floor = 0

    def __init__(self, directory: str, given: "dict[str, object]") -> None:
        self.outbox_dir = directory
        for name in given:
            setattr(self, name, given[name])


class Rig:
    """The storage of a device's journal, and its open file, in whose place a test can put another.

    It keeps to the contract of `outbox.journal.Storage`; the storage's own does the work.
    """

    def __init__(self, storage: object) -> None:
        self._storage = storage
        self.file = None  # the one that was opened last

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def open(self, path: str) -> "Relay":
        self.file = Relay(self._storage.open(path))
        return self.file


class Relay:
    """An open file, or what a test has put in its place."""

    def __init__(self, file: object) -> None:
        self.target = file

    def write(self, data: bytes) -> int:
        return self.target.write(data)

    def flush(self) -> None:
        self.target.flush()

    def close(self) -> None:
        self.target.close()


class Device:
    """A durable outbox, and what it knows of its client."""

    started = 0

    def __init__(self, name: str, path: str = "", **options: object) -> None:
        self.directory = path or directory(name)
        self.options = options
        self.last_error = None
        self.lock = Lock()
        self.outbox = DurableOutbox(Options(self.directory, options), self)
        self.rig = Rig(self.outbox.journal.storage)
        self.outbox.journal.storage = self.rig

    def counter(self, name: str) -> int:
        """Return what the outbox has counted."""
        return self.outbox.counters()[name]

    def put(
        self,
        text: str,
        topic: str = "t",
        newest_only: bool = False,
        expires_s: "float | None" = None,
        qos: int = 1,
    ) -> "Delivery | None":
        """Publish, as the client does, but for the sync."""
        delivery = Delivery(
            topic,
            text.encode(),
            qos,
            False,
            None if expires_s is None else now_ms() + int(expires_s * 1000),
            self,
        )
        return self.offer(delivery, newest_only)

    def offer(self, delivery: Delivery, newest_only: bool = False) -> "Delivery | None":
        """Put a message into the outbox."""
        with self.lock:
            return self.outbox.put(delivery, newest_only, now_ms())

    def take(self) -> "Delivery | None":
        """Put the next message in flight."""
        with self.lock:
            return self.outbox.take(now_ms())

    def forget(self, delivery: Delivery) -> None:
        """Have a message acknowledged."""
        with self.lock:
            self.outbox.forget(delivery)

    def drain(self, acknowledge: bool = True, length: int = 10000) -> "list[str]":
        """Take all there is, and have it acknowledged; return the texts, cut to `length`."""
        texts = []
        while True:
            delivery = self.take()
            if delivery is None:
                return texts
            texts.append(delivery.payload[:length].decode())
            if acknowledge:
                self.forget(delivery)

    def restart(self, **options: object) -> "Device":
        """Start anew on what a kill at this moment would leave behind: a copy of it."""
        Device.started += 1
        name = "copy" + str(Device.started)
        copy = directory(name)
        for path in self.segments():
            to = copy + path[len(self.directory) :]
            with open(path, "rb") as source, open(to, "wb") as target:  # noqa: PTH123
                piece = source.read(512)
                while piece:
                    target.write(piece)
                    piece = source.read(512)
        changed = dict(self.options)
        changed.update(options)
        return Device(name, **changed)

    def segments(self) -> "list[str]":
        """Return the paths of the journal's files."""
        names = os.listdir(self.directory)  # noqa: PTH208  (MicroPython has no pathlib)
        return sorted(self.directory + "/" + name for name in names if len(name) == 20)

    def taken_bytes(self) -> int:
        """Return what the segments take, in blocks of the file system."""
        return sum((os.stat(path)[6] + 4095) // 4096 * 4096 for path in self.segments())  # noqa: PTH116


def texts(count: int, *more: str, start: int = 0) -> "list[str]":
    """Return the texts of `count` messages, and `more` behind them."""
    return ["message " + str(number) for number in range(start, start + count)] + list(more)


def filled(name: str, count: int, **options: object) -> Device:
    """Return a device that has published `texts(count)`."""
    device = Device(name, **options)
    for text in texts(count):
        assert device.put(text)
    return device


class Cached:
    """A journal's open file whose storage keeps in memory what is not flushed: a restart on what is
    in the files is one after a power cut.
    """

    def __init__(self, device: Device) -> None:
        relay = device.rig.file
        self._file = relay.target
        self._unflushed = b""
        self.closed = False
        self.meanwhile = None  # what another thread does while the storage is busy, once
        relay.target = self

    def write(self, data: bytes) -> int:
        self._unflushed += data
        return len(data)

    def flush(self) -> None:
        if self.closed:
            return
        flushed, self._unflushed = self._unflushed, b""
        self._file.write(flushed)
        self._file.flush()
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()

    def close(self) -> None:
        self.closed = True
        self._file.close()


class Failing:
    """A file one of whose operations is done and fails all the same, as a network file system has
    it, or a disk that tells late it is full.
    """

    def __init__(self, file: object, operation: str) -> None:
        self._file = file
        self._operation = operation

    def write(self, data: bytes) -> int:
        self._do("write", data)
        return len(data)

    def flush(self) -> None:
        self._do("flush")

    def close(self) -> None:
        self._do("close")

    def _do(self, operation: str, *arguments: bytes) -> None:
        getattr(self._file, operation)(*arguments)
        if operation == self._operation:
            raise OSError(_EIO, "input/output error")


def fail(device: Device, operation: str) -> None:
    """Have an operation of the journal's open file fail."""
    device.rig.file.target = Failing(device.rig.file.target, operation)


def recover(device: Device) -> None:
    """Have the storage tried again, as a minute later."""
    device.outbox.journal.retry_ms = 0
