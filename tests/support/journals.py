"""A durable outbox without its client, and files of its journal that fail at will, for tests on
both interpreters.

Each restart is without a farewell, as by a kill.
"""

import os

from securemqtt._compat import Lock, now_ms, rarely
from securemqtt.journal import DurableOutbox
from securemqtt.outbox import Delivery
from support.either import directory

_EIO = 5
OPTIONS = {
    "path": "",
    "outbox_fsync": "each",
    "outbox_interval_s": 0.01,
    "outbox_journal_bytes": 65536,
    "outbox_messages": 1000,
    "outbox_bytes": 1 << 20,
    "outbox_full": "refuse",
    "clock_floor": 0,
}


class Device:
    """A durable outbox, and what it knows of its client."""

    started = 0

    def __init__(self, name: str, path: str = "", **options: object) -> None:
        self.directory = path or directory(name)
        self.options = options
        # as `Client` has it
        self._stats = {
            "sent": 0,
            "acknowledged": 0,
            "received": 0,
            "connects": 0,
            "failures": 0,
            "oversized": 0,
        }
        self.last_error = None
        self._lock = Lock()
        settings = dict(OPTIONS)
        settings.update(options)
        settings["outbox_dir"] = self.directory
        self.outbox = DurableOutbox(
            settings["outbox_messages"], settings["outbox_bytes"], settings["outbox_full"]
        )
        rarely("journal_start").open_outbox(self.outbox, self, settings)

    def put(
        self,
        text: str,
        topic: str = "t",
        newest_only: bool = False,
        expires_s: "float | None" = None,
        qos: int = 1,
    ) -> "Delivery | None":
        """Publish, as Client.publish does, but for the sync."""
        delivery = Delivery(
            topic,
            text.encode(),
            qos,
            False,
            None if expires_s is None else now_ms() + int(expires_s * 1000),
        )
        delivery.client = self
        return self.offer(delivery, newest_only)

    def offer(self, delivery: Delivery, newest_only: bool = False) -> "Delivery | None":
        """Put a message into the outbox."""
        with self._lock:
            return self.outbox.put(delivery, newest_only, now_ms())

    def take(self) -> "Delivery | None":
        """Put the next message in flight."""
        with self._lock:
            return self.outbox.take(now_ms())

    def forget(self, delivery: Delivery) -> None:
        """Have a message acknowledged."""
        with self._lock:
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
    """A journal's open file whose medium keeps in memory what is not flushed: a restart on what is
    in the files is one after a power cut.
    """

    def __init__(self, outbox: object) -> None:
        self._file = outbox._file
        self._unflushed = b""
        self.closed = False
        self.meanwhile = None  # what another thread does while the medium is busy, once
        outbox._file = self

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
    device.outbox._file = Failing(device.outbox._file, operation)


def recover(device: Device) -> None:
    """Have the medium tried again, as a minute later."""
    device.outbox._retry_ms = 0


def park(device: Device) -> None:
    """Leave the directory to others, as Client.disconnect does."""
    rarely("journal_start").park(device.outbox)


def resume(device: Device) -> None:
    """Take the directory up again, as Client.start does."""
    rarely("journal_start").resume(device.outbox)
