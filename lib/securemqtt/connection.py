"""`Connection`: one client's way to its broker, kept up. Here is the only loop.

A message's way out: `admission` puts it into the outbox, `turn` moves it to the link as the window
has room, the link (transport/) writes it. On CPython a thread of its own turns the loop, and
whoever waits is woken; on a board whoever waits turns it. The lock guards what both sides touch:
outbox, inbox, state. The link belongs to whoever turns.
"""

from .admission import Admission
from .arguments import milliseconds
from .log import log
from .messages import Delivery
from .outbox import make_outbox
from .platform import BOARD, Lock, Loop, const, now_ms, temporary

if not BOARD:
    # A signal handler must find loaded what it needs: it may have interrupted an import of that.
    from . import errors, lifecycle  # noqa: F401
    from .process import Process
    from .protocol import topics  # noqa: F401

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .inbox import Inbox
    from .lifecycle import State, Turner
    from .settings import Settings
    from .transport.base import Link


# Longest wait in one turn, so that a board's watchdog is fed and its Wi-Fi looked at often enough.
_TURN_MS = const(1000)
# How long the next attempt waits where not even what follows a failed one had room.
_EXHAUSTED_MS = const(10_000)
# How often this device's certificate is looked at.
_DAY_MS = const(86_400_000)


class Connection:
    """State, back-off, and the loop that moves messages between outbox, link and inbox.

    closed → starting → connecting → connected; a failure leads to waiting (back-off), and from
    there to connecting again. `make_link` is what carries it: a backend's class, see
    transport/base.py.
    """

    def __init__(
        self,
        settings: "Settings",
        make_link: "Callable[[Settings, Connection], Link]",
        make_loop: "Callable[[Connection], Turner]" = Loop,
    ) -> None:
        self.settings = settings
        self.lock = Lock()
        self.state: "State" = "closed"
        self.last_error: "Exception | None" = None
        # Why the last attempt or connection failed; `last_error` tells of all else, too.
        self.reason: "Exception | None" = None
        # The kinds of reasons that `on_error` was told of since the last connection.
        self.reasons_told: "list[type]" = []
        self.left = False  # `stop` was called after `start`
        self.serves_forever = False  # whether a `wait` ends once it was
        self.more = False  # whether the last turn had more to send than it could
        self.counters = {
            "sent": 0,
            "acknowledged": 0,
            "received": 0,
            "connects": 0,
            "failures": 0,
            "oversized": 0,
            # Of what came in: no room, no handler, handled before; reconnections for the rest.
            "dropped_in": 0,
            "unhandled": 0,
            "not_run_again": 0,
            "catch_ups": 0,
            "outside": 0,  # publishes and subscriptions that the broker will not carry out
        }
        self.session_present = False
        self.unasked_told = False
        self.catch_up_ms = 0  # until when a reconnection on purpose waits for our own window
        self.inherited = False  # whether this is a forked child, and the client its parent's
        self.told = 0  # how many were undelivered when the client left in order, and said so
        # What is there for handlers, once there is something: who only sends does without.
        self.inbox: "Inbox | None" = None
        self.failures_in_a_row = 0  # attempts that failed, and connections that did not last
        self.moment_ms = 0  # since when the connection stands; without one, when to try next
        # What a connection was given last, and how many in a row were closed soon.
        self.sent_topic = ""
        self.sent_bytes = 0
        self.hung_up_in_a_row = 0
        self.decide_by_ms = 0  # when `connect` gives up, while it runs
        self.certificate_ms = 0  # when this device's certificate is to be looked at again
        self.readying: "Iterator[int] | None" = None
        self.turn_ms = _TURN_MS  # how long a turn may wait for the network; asyncio's not at all
        self.link: "Link" = make_link(settings, self)
        limit = self.link.max_publish_bytes
        self.max_publish_bytes = min(limit, settings.max_publish_bytes or limit)
        self.outbox = make_outbox(settings, self)
        self.outbox.notify = self.lock.notify_all
        self.admission = Admission(self, self.outbox)
        self.watchdog = None
        if settings.watchdog is not None:
            from .board.watchdog import Watchdog

            self.watchdog = Watchdog(settings.watchdog, now_ms())
        self.loop: "Turner" = make_loop(self)
        if not BOARD:
            self.process = Process(self)

    # What the client asks for

    def is_decided(self) -> bool:
        """Return True if the first attempt since `start` has succeeded or failed: by the reason,
        since the state may have gone on from "waiting" before this thread looks at it.
        """
        return self.state == "connected" or self.reason is not None

    def is_entered(self) -> bool:
        """Return True if a `with` block may begin, or must not: see `own_fault`."""
        return self.state == "connected" or self.has_left() or self.own_fault() is not None

    def own_fault(self) -> "Exception | None":
        """Return what an attempt found wrong with this device itself, if anything."""
        from .errors import BundleError, UsageError

        return self.reason if isinstance(self.reason, (BundleError, UsageError)) else None

    def has_left(self) -> bool:
        """Return True if `stop` was called, and has done its work."""
        return self.left and self.state == "closed"

    def start(self) -> None:
        """Keep the connection up from now on. Raise OutboxInUse."""
        if self.state == "closed":
            self.left = False
            self.reasons_told = []
            self.outbox.resume()
            self.last_error = self.reason = None
            self.moment_ms = now_ms()
            self.set_state("starting")
            self.loop.start()

    def start_now(self) -> None:
        """As `start`; where the connection is kept up already, try at once, and anew."""
        if self.state == "closed":
            self.start()
            return
        self.reason = None
        if self.state == "waiting":
            self.moment_ms = now_ms()
        self.wake()

    def stop(self) -> None:
        """Leave in order: DISCONNECT, then nothing goes on any more.

        Blocks for 10 s where the peer does not read, longer only where the storage of a durable
        outbox does. Raise OutOfMemory: then it was left without a word.
        """
        self.left = True
        try:
            self.loop.stop(self._finish)
        except MemoryError as error:
            self.abandon()
            raise exhausted(error)

    def abandon(self) -> None:
        """Leave without a word: there is no memory for more."""
        self.loop.stop(self._drop)

    def wait_until(self, condition: "Callable[[], Any]", timeout_ms: int) -> bool:
        """Serve the network until `condition` holds; return True if it does in time."""
        return self.loop.wait_for(condition, timeout_ms)

    def wait_for(self, delivery: "Delivery | None", timeout_s: float) -> bool:
        """Serve the network until `delivery` is acknowledged, dropped or parked; None: until no
        other is left.

        Return True if it is acknowledged.
        """
        timeout_ms = milliseconds(timeout_s, "timeout_s")
        if delivery is None:
            self.wait_until(lambda: self.outbox.count <= self.parked, timeout_ms)
            return not self.outbox.count
        if not (delivery.dropped or delivery.parked):
            delivery.awaited = True
            self.wait_until(
                lambda: delivery.acknowledged or delivery.dropped or delivery.parked, timeout_ms
            )
        return delivery.acknowledged

    def patience_ms(self) -> int:
        """Return how long a probing connection may take, within the time that `connect` has."""
        longest_ms = self.loop.patience_ms
        left_ms = self.decide_by_ms - now_ms() if self.decide_by_ms else longest_ms
        return min(longest_ms, max(0, left_ms))

    @property
    def parked(self) -> int:
        """How many messages are parked."""
        parking = self.outbox.parking  # which the loop may let go of meanwhile
        return 0 if parking is None else parking.parked.count

    def make_inbox(self) -> "Inbox":
        """Return what there is for handlers, made with the first use."""
        from .inbox import Inbox

        with self.lock:
            if self.inbox is None:
                self.inbox = Inbox(self)
            return self.inbox

    def has_news(self) -> bool:
        """Return True if there is something for the handlers, or no reason to wait for it."""
        if self.serves_forever and self.has_left():
            return True
        return self.inbox is not None and self.inbox.has_news()

    def wake(self) -> None:
        """Have the loop look at once at what there is to do."""
        self.loop.wake()

    # The loop: all below runs where it turns, on CPython in its thread

    def turn(self, wait_ms: int) -> int:
        """Do what is due and let the network move, for `wait_ms` at most.

        Return for how many ms there is nothing to do.
        """
        link = self.link
        self.more = False
        try:
            if self.watchdog is not None:
                failure = self.watchdog.feed(link.up, now_ms())
                if failure is not None and self.inbox is not None:
                    self.inbox.new_error(failure)
            if self.lock.deferred:
                self.lock.settle()
            self.outbox.tick()
            if link.leaving:  # a reconnection on purpose: it is opened again after that
                link.serve(min(wait_ms, self.turn_ms))
                return 0
            if self.state in ("waiting", "starting"):
                left_ms = self.moment_ms - now_ms()
                if left_ms > 0:
                    return min(left_ms, wait_ms)
                with temporary():
                    from .board import readiness

                    self.readying = readiness.ready(self.settings, self.failures_in_a_row)
                self.set_state("connecting")
            if self.readying is not None:
                for pause_ms in self.readying:
                    return min(pause_ms, wait_ms)
                self.readying = None
                # Once the clock is set, and before TLS takes its part of a board's heap.
                self._look_at_certificate()
                link.open()
            if link.up:
                self._look_at_certificate()
            # QoS 0 fills no window, so no answer comes that would end a wait.
            self.more = link.up and self._feed(link) and link.room() > 0
            link.serve(0 if self.more else min(wait_ms, self.turn_ms))
        except MemoryError as error:
            self.link.close()
            self._lost(exhausted(error))
        except Exception as error:
            from .errors import SecureMQTTError

            if not isinstance(error, SecureMQTTError):  # the program's mistake: it is told there
                self._drop()
                raise
            self._lost(error)
        return 0

    def _look_at_certificate(self) -> None:
        if now_ms() >= self.certificate_ms:
            self.certificate_ms = now_ms() + _DAY_MS
            try:
                with temporary():
                    from . import lifecycle

                    lifecycle.look_at_certificate(self)
            except MemoryError:  # nothing else should end for that
                log("warning", "no memory to look at this device's certificate: in a day, again")

    def _feed(self, link: "Link") -> bool:
        """Hand the link what waits, as far as its window has room; return True if more does."""
        outbox = self.outbox
        if self.inbox is not None:
            if self.inbox.wants_catch_up():
                with temporary():
                    from . import lifecycle

                    lifecycle.catch_up(self)
                return False
            self.inbox.answer(link)
        # One at a time: what is taken is nowhere until the link has it, if memory runs out there.
        now = now_ms()
        parking = outbox.parking
        if parking is not None:
            with self.lock:
                as_usual = parking.feed(link, now, self._sent)
            if not as_usual:
                return False
        room = link.room()
        while room > 0 and outbox.head is not None:
            with self.lock:
                delivery = outbox.take(now)
                if delivery is None:  # all that was left had expired
                    self.lock.notify_all()
                    break
            try:
                link.send(delivery)
            except MemoryError:  # the next connection takes it
                with self.lock:
                    outbox.put_back(delivery)
                raise
            self._sent(delivery, False)
            room -= 1
        return outbox.head is not None

    def _sent(self, delivery: Delivery, again: bool) -> None:
        if not again:
            self.counters["sent"] += 1
        self.sent_topic, self.sent_bytes = delivery.topic, len(delivery.payload)

    def _lost(self, error: Exception) -> None:
        """An attempt failed, or the connection is gone: note why, and when to try again."""
        try:
            with temporary():
                from . import lifecycle

                lifecycle.lost(self, error)
        except MemoryError:
            # Not even that fits in: what the program lets go of meanwhile may make room.
            self.readying = None
            self.last_error = self.reason = error
            self.moment_ms = now_ms() + _EXHAUSTED_MS
            self.set_state("waiting")

    def _finish(self) -> None:
        with temporary():
            from . import lifecycle

            leaving = lifecycle.finish(self)
        for _ in leaving:
            self.link.serve(_TURN_MS)

    def _drop(self) -> None:
        self.link.close()
        self.readying = None
        with self.lock:
            self.outbox.ended(self.link, now_ms())
        try:
            self.outbox.release()
        except MemoryError:  # it is released with the process
            log("error", "no memory to leave the outbox in order")
        self.set_state("closed")

    def set_state(self, state: "State") -> None:
        with self.lock:
            if state != self.state:
                self.state = state
                if self.inbox is not None:
                    self.inbox.new_state(state)
            self.lock.notify_all()

    # What the link tells, from inside its `serve`: see transport/base.py. The inbox has the rest.
    def connected(self, session_present: bool) -> None:
        self.session_present = session_present
        with temporary():
            from . import lifecycle

            lifecycle.connected(self, session_present)

    def acknowledged(self, delivery: Delivery) -> None:
        if delivery.waiter is None:  # our own status message, which was never in the outbox
            return
        delivery.acknowledged = True
        self.counters["acknowledged"] += 1
        outbox = self.outbox
        with self.lock:
            if outbox.parking is not None:
                outbox.parking.acknowledged(delivery)
            outbox.forget(delivery)
            if delivery.awaited or outbox.held <= self.parked:
                self.loop.notify(delivery)


def exhausted(error: MemoryError) -> Exception:
    """Return OutOfMemory; without memory even for that, `error` itself."""
    try:
        from .errors import OutOfMemory

        return OutOfMemory()
    except MemoryError:
        return error
