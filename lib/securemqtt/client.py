"""`Client`: the thin API. What it does is done by its `Connection`."""

from .arguments import check_function, milliseconds
from .connection import exhausted
from .face import Face
from .log import quoted
from .platform import const, now_ms, temporary

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from .messages import Delivery, Message

# How long leaving after Ctrl-C may take to deliver what is queued.
_INTERRUPTED_S = const(2)


class Client(Face):
    """One device's connection to its broker: secured, kept up, and with a memory for what is not
    delivered yet.

    `bundle` is the directory of the device's identity, by default the first that is found in the
    usual places. `options` override what its config.json says; docs/options.md has what each is,
    and so has `help(securemqtt.ClientOptions)` on a computer:

        host, preset, port, client_id, prefix, transport, ws_path, alpn, system_trust, ca,
        certificate, key, key_password, username, password, password_file, keep_alive_s,
        clean_session, will, status, clock_floor, ntp_host, certificate_warning_days, window,
        max_packet_bytes, max_publish_bytes, may_publish, may_subscribe, connect_timeout_s, outbox,
        outbox_messages, outbox_bytes, outbox_full, outbox_dir, outbox_fsync, outbox_interval_s,
        outbox_journal_bytes, early_s, skip_redelivered, watchdog

    Durations are in seconds; one below 0 has passed already, and counts as 0.
    `client_id`, `state`, `connected`, `last_error`, `pending` and `stats` can be read only.
    Raise BundleNotFound, UsageError, or what is wrong with the bundle. Does not touch the network.
    """

    # The connection

    def connect(self, timeout_s: float = 30) -> None:
        """Connect once, in at most `timeout_s` seconds, or raise the error that says why not.

        Return when the broker has accepted us (CONNACK); after a failure nothing goes on in the
        background. What time may cure (`error.transient`) can be tried again; `start` does that.
        """
        connection = self._connection
        timeout_ms = milliseconds(timeout_s, "timeout_s")
        try:
            connection.decide_by_ms = now_ms() + timeout_ms
            connection.start_now()
            connection.wait_until(connection.is_decided, timeout_ms)
            if connection.state != "connected":
                with temporary():
                    from . import lifecycle

                    error = lifecycle.given_up(connection, timeout_s)
                connection.stop()
                raise error
        except MemoryError as error:
            connection.abandon()
            raise exhausted(error)
        finally:
            connection.decide_by_ms = 0

    def start(self) -> None:
        """Keep the connection up from now on, trying again for ever.

        Never raises for the network's sake. On a board, call `wait` or `poll`.
        """
        self._connection.start()

    def disconnect(self, timeout_s: float = 10) -> None:
        """Deliver what is queued, within `timeout_s` seconds if connected, and leave in order.

        What is left stays in the outbox.
        """
        connection = self._connection
        milliseconds(timeout_s, "timeout_s")  # also where it is not needed
        if connection.inherited:
            from .process import refuse_in_child

            refuse_in_child()
        if connection.state != "closed":
            try:
                if connection.state == "connected":
                    self.flush(timeout_s)
            finally:
                connection.stop()

    def __enter__(self) -> "Client":
        """Keep the connection up within the block: for programs that run unattended.

        Wait for the first connection, for `connect_timeout_s` at most, and enter without one: it is
        tried again for ever, and `last_error` and `on_error` tell why there is none. Raise only
        what this device finds without the network: UsageError, BundleError, OutboxInUse, and
        ClientCertificateExpired by a clock that can be trusted.
        """
        connection = self._connection
        try:
            self._check_certificate()
            connection.start_now()
            timeout_ms = milliseconds(connection.settings.connect_timeout_s, "connect_timeout_s")
            if not connection.wait_until(connection.is_entered, timeout_ms):
                self._check_certificate()  # a board's clock may be right only now
            own = connection.own_fault()
            if own is not None:
                raise own
        except MemoryError as error:
            connection.abandon()
            raise exhausted(error)
        except BaseException:
            if connection.state != "closed":
                connection.stop()
            raise
        return self

    def __exit__(self, kind: "type | None", *exc: object) -> None:
        if self._connection.inherited:  # it is for the parent to leave
            return
        # Who presses Ctrl-C, or mpremote, will not wait for long.
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.disconnect(_INTERRUPTED_S if interrupted else 10)

    # Messages

    def publish(
        self,
        topic: str,
        payload: object,
        qos: int = 1,
        retain: bool = False,
        expires_s: "float | None" = None,
        newest_only: bool = False,
    ) -> "Delivery":
        """Queue a message and return at once: no network is waited for, but a durable outbox's
        storage, and another thread that is at work there, 30 s at most.

        Any thread and signal handler may call this on CPython, on a board a timer's, a pin's or
        `micropython.schedule`'s soft callback; one that interrupts the client itself gets a
        Delivery that may be `dropped` later, where the outbox turns out to have no room. A hard
        interrupt cannot: MicroPython has no memory to give there, and raises MemoryError.
        `payload` is bytes, str, or what JSON can say. With QoS 1 it arrives at least once as long
        as this process lives, with outbox="durable" whatever becomes of process and power:
        docs/outbox.md has how long that takes, and OutboxInUse. `expires_s`: drop it if it could
        not be sent within so many seconds. `newest_only`: drop what waits on this topic still, as
        suits a retained state. Raise InvalidTopic, InvalidPayload, UsageError, MessageTooLarge, or,
        where the outbox is full and is to refuse then, OutboxFull; TimedOut after those 30 s.
        """
        return self._put(topic, payload, qos, retain, expires_s, newest_only, True)

    def subscribe(
        self,
        topic_filter: str,
        handler: "Callable[[Message], None]",
        qos: int = 1,
        acknowledge: "Literal['handled', 'later']" = "handled",
    ) -> None:
        """Have `handler(message)` called in `wait` or `poll` for what comes under `topic_filter`.

        Made again after a reconnect if need be. A QoS 1 or 2 message is acknowledged when its
        handler has returned; with acknowledge="later", when the program calls its `acknowledge()`,
        after a commit say. Until then it counts in the inbox's bound, and the broker sends no more
        than its in-flight window (20 or so) of others. A second handler for the same filter
        replaces the first. Raise InvalidTopic, UsageError.
        """
        if acknowledge not in ("handled", "later"):
            from .errors import UsageError

            what = "acknowledge must be handled or later, not {}"
            raise UsageError(what.format(quoted(acknowledge)))
        topic_filter = self._checked_filter(topic_filter, qos)
        check_function("the handler of a subscription", handler, False)
        self._subscribe(topic_filter, handler, qos, acknowledge == "later")

    def unsubscribe(self, topic_filter: str) -> None:
        """Forget a subscription, here and at the broker. Raise InvalidTopic."""
        self._unsubscribe(self._checked_filter(topic_filter, 0))

    # Serving the network, in the caller's thread

    def wait(self, seconds: float) -> None:
        """Serve the network for `seconds`: the handlers run here.

        On a board this is what carries messages in and out. There it may take longer: name
        resolution as long as its resolver does, a peer that does not read 5 s, a handler its own.
        """
        connection = self._connection
        deadline_ms = now_ms() + milliseconds(seconds, "the time to wait")
        while True:
            connection.wait_until(connection.has_news, max(deadline_ms - now_ms(), 0))
            if connection.inbox is not None:
                connection.inbox.hand_out(deadline_ms)
            if now_ms() >= deadline_ms or (connection.serves_forever and connection.has_left()):
                break

    def poll(self) -> None:
        """Serve the network as far as it is ready, without waiting: handlers run here."""
        connection = self._connection
        connection.wait_until(connection.has_news, 0)
        if connection.inbox is not None:
            connection.inbox.hand_out(None)

    def run_forever(self) -> None:
        """Serve the network until `disconnect()` is called, in a handler or another thread.

        An exception such as KeyboardInterrupt ends it, too. Raise UsageError if the client was not
        started.
        """
        connection = self._connection
        if connection.state == "closed" and not connection.left:
            self.wait(0)  # raises what has ended the client, if anything has
            from .errors import UsageError

            raise UsageError("run_forever serves a client that was started: with client:")
        connection.serves_forever = True
        try:
            while not connection.has_left():
                self.wait(3600)
        finally:
            connection.serves_forever = False

    def flush(self, timeout_s: float = 30) -> bool:
        """Serve the network until everything is acknowledged: then it is safe to sleep deeply.

        Return True if it is within `timeout_s` seconds, False at once where only parked messages
        are left. With outbox="durable" deep sleep is safe in any case, for what is not acknowledged
        is in storage by then. Handlers do not run here: what comes in waits for `wait` or `poll`.
        """
        delivered = self._connection.wait_for(None, timeout_s)
        self._connection.outbox.sync()
        return delivered
