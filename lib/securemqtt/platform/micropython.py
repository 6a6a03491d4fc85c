"""MicroPython's side: one thread, a clock that wraps, a small heap, limits for a board."""

import gc
import io
import os
import random
import sys
import time
from collections import deque

from micropython import const  # every module takes it from here

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BACKEND = "umqtt"
# Whether Wi-Fi and clock are this library's to set up; a computer's system does that.
BOARD = True
OUTBOX_MESSAGES = 100
OUTBOX_BYTES = 16384
# What may wait for its handlers, of QoS 1 and 2 and of QoS 0; and for its subscription.
INBOX_BYTES = 16384
INBOX_QOS0_BYTES = 8192
EARLY_BYTES = 4096
# How long handlers run until the network has its turn.
HAND_OUT_MS = 20
# How many of the messages that were handled are remembered.
REMEMBERED = 64
MAX_PACKET_BYTES = 16384
# A certificate or key is DER here, PEM on a computer.
TAKES_DER = True
# Whether the journal lies on a flash chip, which wears, and no other thread is there to sync it.
FLASH = True
# Whether there is the module `typing`, and with it `ClientOptions`.
HAS_TYPING = False


def bundle_places() -> "list[str]":
    """Return the directories in which a bundle is looked for."""
    named = os.getenv("SECUREMQTT_BUNDLE") if hasattr(os, "getenv") else None
    return [named] if named else ["/secure"]


def is_credential(path: str) -> bool:
    """Return False: there is no systemd."""
    return False


def is_plain(text: str) -> bool:
    """Return True if a topic needs no closer look for what MQTT does not allow in it."""
    content = text.encode()
    return not content or (min(content) >= 32 and max(content) < 127)


def escaped(text: str) -> str:
    """Return text in one line that is what it looks like: with what moves a terminal's cursor,
    turns the direction of writing, cannot be seen, or is half a character, written out.
    """
    if is_plain(text):
        return text
    shown = ""
    start = 0
    for at in range(len(text)):
        # `text[at]`, as a loop over `text` gives it, would stay in a board's memory for ever.
        code = ord(text[at : at + 1])
        if _is_unsafe(code):
            how = "\\x{:02x}" if code < 0x100 else "\\u{:04x}" if code < 0x10000 else "\\U{:08x}"
            shown += text[start:at] + how.format(code)
            start = at + 1
    return shown + text[start:]


def _is_unsafe(code: int) -> bool:
    """Return True for a character that may not reach a terminal or a log as it is.

    The same as in cpython.py; tests/unit/test_log.py holds both to Unicode's own table.
    """
    if code < 0x600:
        return code < 32 or 127 <= code < 160 or code == 0xAD
    return (
        0x200B <= code < 0x2010  # of no width; marks of direction
        or 0x2028 <= code < 0x202F  # ends of lines; direction
        or 0x2060 <= code < 0x2070  # not to be seen; direction
        or 0xD800 <= code < 0xE000  # halves of surrogate pairs
        or 0xFFF9 <= code < 0xFFFC
        or 0xE0000 <= code < 0xE1000  # tags
        or code in (0x61C, 0x180E, 0xFEFF)
    )


# How many blocks below `temporary` the program is in, and the locks that wait for the end of that.
_loading = 0
_unsettled: "list[Lock]" = []


def _loaded() -> None:
    global _loading
    _loading -= 1
    while _unsettled and not _loading:
        _unsettled.pop().settle()


# How many messages callbacks may publish while they interrupt the client itself.
_DEFERRED = const(32)


class Lock:
    """What it guards has one owner at a time; here the others are callbacks: of a timer, a pin or
    `micropython.schedule`. They run between any two jumps of the program's bytecode.

    One that interrupts the owner must leave alone what that one may have half changed. Where
    `interrupts` is true for it, it calls `defer`; as soon as the lock is free, what was deferred is
    admitted.
    """

    def __init__(self) -> None:
        self._admission: "Any" = None
        self._beside: "Lock | None" = None
        self._depth = 0
        self.deferred: "Any" = ()

    def tell(self, admission: "Any") -> None:
        """Have `admission` told when something was deferred."""
        self._admission = admission
        # As MicroPython has it: it never grows, and says so when it is full.
        self.deferred = deque((), _DEFERRED, 1)  # type: ignore[call-overload]

    def go_with(self, other: "Lock") -> None:
        """Treat who has the `other` lock as one who has this.

        Who gives it back calls `settle`.
        """
        self._beside = other

    def interrupts(self) -> bool:
        """Return True if somebody has the lock, so that this call comes amid that one's work.

        Or if modules are being loaded: what this call needs of them may be half there.
        """
        if self._depth or _loading:
            return True
        return self._beside is not None and self._beside.interrupts()

    def __enter__(self) -> bool:
        self._depth += 1
        return True

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if self.deferred:
            self.settle()

    def take(self, timeout_s: int) -> bool:
        """Take hold of the lock; return True. Then `give` is due."""
        self._depth += 1
        return True

    give = __exit__

    def defer(self, entry: object) -> bool:
        """Note what whom this call interrupts is to admit; return False if too many wait."""
        if _loading and self not in _unsettled:
            _unsettled.append(self)
        try:
            self.deferred.append(entry)
        except IndexError:
            return False
        return True

    def settle(self) -> None:
        """Have admitted what was deferred, unless somebody has the lock, who does it afterwards."""
        while self.deferred and not self.interrupts():
            self._depth = 1
            try:
                self._admission.admit()
            finally:
                self._depth = 0
        if not self.interrupts():
            self._admission.admitted()

    def notify_all(self) -> None:
        """Do nothing: no other thread waits."""


_last = time.ticks_ms()
_total = 0


def now_ms() -> int:
    """Return monotonic milliseconds; they do not wrap if this is called once in six days."""
    global _last, _total
    ticks = time.ticks_ms()
    _total += time.ticks_diff(ticks, _last)
    _last = ticks
    return _total


# Ports count from 1970 or from 2000; ours is always 1970, as in certificates and config.json.
_EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0


def unix_time() -> int:
    """Return the wall clock in seconds since 1970."""
    return int(time.time()) + _EPOCH_S


def random_between(low: int, high: int) -> int:
    """Return a random integer from `low` to `high`, both included; no secret is made of it."""
    return random.randint(low, high)  # noqa: S311


_READ_ON_MS = const(250)


class Loop:
    """Turns a connection's loop where there is one thread: whoever waits turns it."""

    patience_ms = 5000  # how long a probing connection may take

    def __init__(self, connection: "Any") -> None:
        self._connection = connection

    def start(self) -> None:
        """Do nothing: the connection's state tells `wait_for` to turn it."""

    def stop(self, finish: "Callable[[], None]") -> None:
        """Call `finish` as the last turn."""
        finish()

    def wake(self) -> None:
        """Do nothing: whoever could be waiting is the caller."""

    def notify(self, delivery: object) -> None:
        """Do nothing: no other thread waits."""

    def wait_for(self, condition: "Callable[[], Any]", timeout_ms: int) -> bool:
        """Turn the loop, at least once, until `condition` holds.

        Return True if it does within `timeout_ms`.
        """
        connection = self._connection
        deadline = now_ms() + timeout_ms
        done = condition()
        while True:
            left = 0 if done else max(deadline - now_ms(), 0)
            idle_ms = min(left, 1000) if connection.state == "closed" else connection.turn(left)
            if idle_ms:
                time.sleep_ms(idle_ms)
            done = condition()
            if done or not left:
                self._read_on()
                return bool(done)

    def _read_on(self) -> None:
        """Read until a read finds nothing, for 250 ms at most: a broker drops what does not fit
        into its queue for this device, our own acknowledgements, too.
        """
        connection = self._connection
        deadline = now_ms() + _READ_ON_MS
        while connection.link.heard and now_ms() < deadline and connection.state == "connected":
            connection.turn(0)


def thread_id() -> int:
    """Return the same number each time: there is one thread."""
    return 0


def emit(level: str, text: str, told: bool) -> None:
    """Print a line of the log, unless `log_to`'s function was `told` it or its level is debug."""
    if not told and level != "debug":
        print("securemqtt", level + ":", text)


# How a traceback's first line begins, and each that says where.
_PLACES = ("Traceback ", '  File "')


def report_exception(error: BaseException) -> None:
    """Print the traceback of what a handler of the user's failed with.

    Its words are escaped, line breaks too: they may be what an outsider wrote.
    """
    print("securemqtt error: a handler failed")
    if isinstance(error, MemoryError):  # those words are MicroPython's own
        sys.print_exception(error)
        return
    try:
        text = io.StringIO()
        sys.print_exception(error, text)
        lines = text.getvalue().rstrip("\n").split("\n")
        words = 0
        while words < len(lines) - 1 and lines[words].startswith(_PLACES[words > 0]):
            print(lines[words])
            words += 1
        print(escaped("\n".join(lines[words:])))
    except MemoryError:
        print(type(error).__name__)


# What stays once it is loaded, also where a user's function (the log's, say) has it loaded below
# `temporary`: `except` goes by the identity of a class, and the others have objects that live on.
_KEPT = (
    "securemqtt.errors",
    "securemqtt.inbox",
    "securemqtt.protocol.incoming",
    "securemqtt.protocol.received",
    "securemqtt.transport.umqtt_receiving",
)


class temporary:
    """A block in which modules are loaded for the occasion: they are forgotten when it is left.

    What runs once per connection, or when something has failed, need not fill a board's heap in
    between. It is imported in the ordinary way, by an `import` inside a function, below

        with temporary():
            from . import config
            settings = config.load(bundle, options)

    and is out of memory again when the block is left, with whatever it imported from this package.
    Objects that it made stay, and so does the module of each object's class. Nothing that stays is
    loaded below it for the first time, and the network is not waited for; a user's function may
    run there, the log's. `errors` is never forgotten; its classes take 8 kB, so what runs on a
    board as long as all goes well imports it in the function that raises.
    """

    def __enter__(self) -> None:
        global _loading
        _loading += 1
        # Else what the program keeps would come to lie between what is forgotten later, and leave
        # no room for TLS in one piece.
        gc.collect()
        try:
            self._before = list(sys.modules)
        except MemoryError:
            _loaded()
            raise

    def __exit__(self, kind: "type | None", *exc: object) -> None:
        try:
            if kind is MemoryError:
                _drop_half_loaded()
            # Without a list of them, for memory may have run out within the block.
            name = self._next()
            while name:
                _forget(name)
                name = self._next()
        finally:
            _loaded()

    def _next(self) -> str:
        """Return the name of a module that is to be forgotten, "" if there is none left."""
        for name in sys.modules:
            ours = name.startswith("securemqtt.") and name not in _KEPT
            if ours and name not in self._before:
                return name
        return ""


def _drop_half_loaded() -> None:
    """Let go of modules whose import has run out of memory.

    MicroPython takes their names out of `sys.modules`, but the dict keeps the value of what was
    deleted until its place is taken: 14 kB in one trial. So each place is taken once; that of an
    integer is its value.
    """
    try:
        for place in range(256):
            sys.modules[place] = None  # type: ignore[index]
            del sys.modules[place]  # type: ignore[arg-type]
    except MemoryError:  # no place is free, so nothing is held
        return


def _forget(name: str) -> None:
    """Take a module out of memory, as far as nothing else holds on to it.

    Its places are overwritten first: MicroPython's dicts keep the value of what was deleted until
    its place is taken.
    """
    sys.modules[name] = None
    del sys.modules[name]
    parent, _, leaf = name.rpartition(".")
    package = sys.modules.get(parent)
    if package is not None and leaf in package.__dict__:
        setattr(package, leaf, None)
        delattr(package, leaf)
