"""`Client`: the thin API, and the only loop.

A message's way out: `publish` puts it into the outbox, `_turn` moves it to the link as the window
has room, the link (backends/) writes it. On CPython a thread of its own turns the loop, and whoever
waits is woken; on a board `wait`, `poll` and `flush` turn it themselves. The lock guards what both
sides touch: outbox, inbox, subscriptions, state. The link belongs to whoever turns.

What runs for each message is here; what runs once per connection is in lifecycle.py, which a board
does not keep in memory.
"""

from ._compat import (
    READINESS,
    TYPE_CHECKING,
    Lock,
    const,
    link_class,
    make_loop,
    now_ms,
    once,
    plain,
    rare,
    rarely,
    serve_until,
    start_loop,
    wake,
)
from .failure import base, exhausted, failure
from .outbox import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .backends.contract import Link
    from .errors import SecureMQTTError
    from .messages import Incoming, Message
    from .outbox import Outbox

# Longest wait in one turn, so that a board's watchdog is fed and its Wi-Fi looked at often enough.
_TURN_MS = const(1000)
# How long the next attempt waits where not even what follows a failed one had room.
_EXHAUSTED_MS = const(10_000)


class Client:
    """One device's connection to its broker: secured, kept up, and with a memory for what is not
    delivered yet.

    `bundle` is the directory of the device's identity, by default the first that is found in the
    usual places. `options` override what its config.json says; docs/ARCHITECTURE.md lists them.
    Raises BundleNotFound, or what is wrong with the bundle. Does not touch the network.
    """

    _loop: "Any"  # CPython's, see _compat.make_loop

    def __init__(self, bundle: "str | None" = None, **options: "Any") -> None:
        self._settings: "dict[str, Any]" = rarely("bundle").settings_of(bundle, options)
        self._assemble()

    @once
    def _assemble(self) -> None:
        settings = self._settings
        self.client_id: str = settings["client_id"]
        self.state = "closed"
        self.last_error: "SecureMQTTError | None" = None
        # why the last attempt or connection failed; `last_error` tells of all else, too
        self._reason: "SecureMQTTError | None" = None
        self._stats = {
            "sent": 0,
            "acknowledged": 0,
            "received": 0,
            "connects": 0,
            "failures": 0,
            "oversized": 0,
        }
        self._lock = Lock()
        # what is there for handlers, once there is something: a device that only sends does without
        self._incoming: "Incoming | None" = None
        self._failures = 0  # attempts in a row that failed, and connections that did not last
        self._moment_ms = 0  # since when the connection stands; without one, when to try next
        self._readying: "Any" = None
        self._link: "Link" = link_class()(settings, self)
        self._outbox: "Outbox" = rarely("assembly").make_outbox(self)
        # needed for this alone, and kept as long as the rest
        settings["outbox"] = settings["outbox_fsync"] = None
        if settings["watchdog"] is not None:
            from .watchdog import Watchdog

            settings["watchdog"] = Watchdog(settings["watchdog"], now_ms())
        make_loop(self)

    # The connection

    def connect(self, timeout_s: float = 30) -> None:
        """Connect once, in at most `timeout_s` seconds, or raise the error that says why not;
        nothing goes on in the background then.

        Returns when the broker has accepted us (CONNACK). What time may cure (`error.transient`)
        can be tried again; `start` does that.
        """
        try:
            self.start()
            serve_until(self, self._settled, int(timeout_s * 1000))
            if self.state != "connected":
                raise rarely("lifecycle").given_up(self, timeout_s)
        except MemoryError:
            raise exhausted()

    def _settled(self) -> bool:
        # By the reason, not by the state: after a short back-off that may have gone on from
        # "waiting" before this thread looks at it.
        return self.state == "connected" or self._reason is not None

    @rare
    def start(self) -> None:
        """Keep the connection up from now on, trying again for ever; never raises for the network's
        sake. On a board, call `wait` or `poll`.
        """
        if self.state == "closed":
            if self._outbox.sync:
                rarely("journal_start").resume(self._outbox)
            self.last_error = self._reason = None
            self._moment_ms = now_ms()
            self._set_state("starting")
            start_loop(self)

    @rare
    def disconnect(self, timeout_s: float = 10) -> None:
        """Deliver what is queued, within `timeout_s` seconds if connected, and leave in order.

        What is left stays in the outbox.
        """
        rarely("lifecycle").disconnect(self, timeout_s)

    def __enter__(self) -> "Client":
        self.connect(self._settings["connect_timeout_s"])
        return self

    @rare
    def __exit__(self, *exc: object) -> None:
        self.disconnect()

    @property
    def stats(self) -> "dict[str, int]":
        """Return what was counted since this client was made: sent, acknowledged, received,
        connects, reconnects, failures, dropped, oversized.
        """
        stats: "dict[str, int]" = rarely("counters").counters(self)
        return stats

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and has not gone since."""
        return self.state == "connected"

    @property
    def pending(self) -> int:
        """How many messages the broker has not acknowledged yet: those that wait and those in
        flight.
        """
        return self._outbox.count

    @rare
    def on_state(self, handler: "Callable[[str], None] | None") -> None:
        """Have `handler(state)` called in `wait` or `poll` for each change: starting, connecting,
        connected, waiting (back-off), closed.
        """
        from .messages import incoming

        incoming(self).on_state = handler

    @rare
    def on_error(self, handler: "Callable[[Exception], None] | None") -> None:
        """Have `handler(exception)` called for each exception that leaves a handler; it is logged
        in any case.
        """
        from .messages import incoming

        incoming(self).on_error = handler

    # Messages

    def publish(
        self,
        topic: str,
        payload: object,
        qos: int = 1,
        retain: bool = False,
        expires_s: "float | None" = None,
        newest_only: bool = False,
    ) -> Delivery:
        """Queue a message and return at once; any thread may call this on CPython.

        `payload` is bytes, str, or what JSON can say. With QoS 1 it arrives at least once as long
        as this process lives, with outbox="durable" whatever becomes of process and power:
        docs/outbox.md has how long that takes, and OutboxInUse. `expires_s`: drop it if it could
        not be sent within so many seconds. `newest_only`: drop what waits on this topic still, as
        suits a retained state. Raises InvalidTopic, InvalidPayload, UsageError, MessageTooLarge,
        or, where the outbox is full and is to refuse then, OutboxFull.
        """
        if topic[:2] == "~/":
            topic = "devices/" + self.client_id + topic[1:]
        if (
            not 0 < len(topic) < 16384
            or "+" in topic
            or "#" in topic
            or "\0" in topic
            or not plain(topic)
        ):
            rarely("lifecycle").checked(self, topic, False)
        if not 0 <= qos <= 2:
            raise rarely("lifecycle").unknown_qos(qos)
        try:
            if type(payload) is not bytes:
                from .payload import encode  # a board that sends nothing but bytes does without

                payload = encode(payload)
        except (TypeError, ValueError, RuntimeError) as error:  # the last: nested too deep
            raise failure(
                "InvalidPayload", "the payload is neither bytes nor str nor JSON", str(error)
            )
        now = now_ms()
        delivery = Delivery(
            topic, payload, qos, retain, None if expires_s is None else now + int(expires_s * 1000)
        )
        delivery.client = self
        outbox = self._outbox
        with self._lock:
            idle = outbox.head is None
            accepted = outbox.put(delivery, newest_only, now)
        if accepted is None:
            raise rarely("lifecycle").refused(self, delivery)
        if idle:
            wake(self)
        if outbox.eager:
            outbox.sync()
        return accepted

    @rare
    def subscribe(
        self, topic_filter: str, handler: "Callable[[Message], None]", qos: int = 1
    ) -> None:
        """Have `handler(message)` called in `wait` or `poll` for what comes under `topic_filter`;
        made again after a reconnect if need be.

        A QoS 1 message is acknowledged when its handler has returned. A second handler for the same
        filter replaces the first.
        """
        rarely("lifecycle").subscribe(self, topic_filter, handler, qos)

    @rare
    def unsubscribe(self, topic_filter: str) -> None:
        """Forget a subscription, here and at the broker."""
        rarely("lifecycle").unsubscribe(self, topic_filter)

    # Serving the network, in the caller's thread

    def wait(self, seconds: float) -> None:
        """Serve the network for `seconds`: the handlers run here. On a board this is what carries
        messages in and out.

        Name resolution on a board blocks for as long as its resolver does; all else keeps to the
        time given, but for a handler's own.
        """
        deadline_ms = now_ms() + int(seconds * 1000)
        while True:
            serve_until(self, self._has_news, max(deadline_ms - now_ms(), 0))
            if self._incoming:
                self._incoming.hand_out(deadline_ms)
            if now_ms() >= deadline_ms:
                break

    def poll(self) -> None:
        """Serve the network as far as it is ready, without waiting: handlers run here."""
        serve_until(self, self._has_news, 0)
        if self._incoming:
            self._incoming.hand_out(None)

    def run_forever(self) -> None:
        """Serve the network until an exception ends it, KeyboardInterrupt for one."""
        while True:
            self.wait(3600)

    def flush(self, timeout_s: float = 30) -> bool:
        """Serve the network until everything is acknowledged; return True if it is within
        `timeout_s` seconds. Then it is safe to sleep deeply.

        With outbox="durable" it is in any case, for what is not acknowledged is on the medium by
        then. Handlers do not run here: what comes in waits for `wait` or `poll`.
        """
        delivered = self.wait_for(None, timeout_s)
        if self._outbox.sync:
            self._outbox.sync()
        return delivered

    def wait_for(self, delivery: "Delivery | None", timeout_s: float) -> bool:
        """Serve the network until `delivery`, or with None each one, is acknowledged or dropped;
        return True if it is acknowledged.
        """
        if delivery:
            delivery.awaited = True
        if delivery:
            settled = lambda: delivery.acknowledged or delivery.dropped  # noqa: E731
        else:
            settled = lambda: not self._outbox.count  # noqa: E731
        done = serve_until(self, settled, int(timeout_s * 1000))
        return delivery.acknowledged if delivery else done

    def _has_news(self) -> bool:
        return self._incoming is not None and self._incoming.has_news()

    # The loop: everything below runs where the loop turns, on CPython in its thread

    def _turn(self, wait_ms: int) -> int:
        """Do what is due and let the network move, for `wait_ms` at most; return for how many ms
        there is nothing to do.
        """
        link = self._link
        watchdog = self._settings["watchdog"]
        if watchdog is not None:
            watchdog.feed(link.up, now_ms())
        if self._outbox.tick:
            self._outbox.tick()
        try:
            if self.state in ("waiting", "starting"):
                left_ms = self._moment_ms - now_ms()
                if left_ms > 0:
                    return min(left_ms, wait_ms)
                self._readying = rarely(READINESS).ready(self._settings, self._failures)
                self._set_state("connecting")
            if self._readying is not None:
                for pause_ms in self._readying:
                    return min(int(pause_ms), wait_ms)
                self._readying = None
                link.open()
            if link.up:
                self._feed(link)
            # QoS 0 fills no window, so no answer comes that would end a wait.
            more = link.up and self._outbox.head is not None and link.room() > 0
            link.serve(0 if more else min(wait_ms, _TURN_MS))
        except (base(), MemoryError) as error:
            self._lost(error)
        return 0

    def _lost(self, error: "SecureMQTTError | MemoryError") -> None:
        if isinstance(error, MemoryError):
            self._link.close(False)
            error = exhausted()
        try:
            rarely("lifecycle").lost(self, error)
        # not even that fits in, on a board: what the program lets go of in the meantime may make
        # room for the next attempt
        except MemoryError:
            self._readying = None
            self.last_error = self._reason = error
            self._moment_ms = now_ms() + _EXHAUSTED_MS
            self._set_state("waiting")

    def _feed(self, link: "Any") -> None:
        """Hand the link what waits, as far as its window has room."""
        outbox = self._outbox
        if self._incoming:
            self._incoming.answer(link)
        # One at a time: what is taken is nowhere until the link has it, and there a board's memory
        # may run out.
        now = now_ms()
        room = link.room()
        while room > 0 and outbox.head is not None:
            with self._lock:
                delivery = outbox.take(now)
                if not outbox.count:  # all that was left had expired
                    self._lock.notify_all()
            if delivery is None:
                break
            try:
                link.send(delivery)
            except MemoryError:  # the next connection takes it
                with self._lock:
                    outbox.put_back(delivery)
                raise
            self._stats["sent"] += 1
            room -= 1

    @rare
    def _finish(self) -> None:
        rarely("lifecycle").finish(self)

    def _set_state(self, state: str) -> None:
        with self._lock:
            if state != self.state:
                self.state = state
                if self._incoming:
                    self._incoming.new_state(state)
            self._lock.notify_all()

    # What the link tells, from inside its `serve`: see backends/contract.py

    def link_event(self, event: str, *details: object) -> None:
        """Tell what comes once in a while: `event` is the name of a function in lifecycle.py."""
        getattr(rarely("lifecycle"), event)(self, *details)

    def link_acknowledged(self, delivery: Delivery) -> None:
        if delivery.client is None:  # our own status message, which was never in the outbox
            return
        delivery.acknowledged = True
        self._stats["acknowledged"] += 1
        outbox = self._outbox
        with self._lock:
            outbox.forget(delivery)
            if delivery.awaited or not outbox.count:
                self._lock.notify_all()

    def link_message(self, message: "Message") -> bool:
        from .messages import incoming

        return incoming(self).put(message)
