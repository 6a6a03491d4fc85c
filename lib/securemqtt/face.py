"""What both faces of the client have: the one that blocks (client.py), and asyncio's (aio.py)."""

from .arguments import check_flag, check_function, checked_topic, fits, full_topic, milliseconds
from .connection import Connection
from .messages import Delivery, encode
from .platform import Loop, const, now_ms, temporary
from .transport import make_link

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from typing_extensions import Unpack  # the type checker's own: 3.10 has none in typing

    from .lifecycle import Turner
    from .messages import Message
    from .options import ClientOptions


class Face:
    """A client as far as it does not wait for anything."""

    def __init__(
        self, bundle: "str | PathLike[str] | None" = None, **options: "Unpack[ClientOptions]"
    ) -> None:
        self._connection = self._make_connection(bundle, options)
        # The topic that was published to last, as it was given and in full: it is often the next
        # one, too, and was looked at already. One tuple, since any thread may publish.
        self._known_topic: "tuple[str, str] | None" = None

    def _make_connection(
        self, bundle: "str | PathLike[str] | None", options: "ClientOptions"
    ) -> Connection:
        """Return the connection that `__init__` was asked for. No option leads to another kind:
        the stand-in of `securemqtt.testing` is a class of its own.
        """
        with temporary():
            from . import config

            settings = config.load(bundle, options)
        return Connection(settings, make_link, self._make_loop)

    def __repr__(self) -> str:
        connection = self._connection
        settings = connection.settings
        return "<{} {} at {}: {}, {} pending>".format(
            type(self).__name__,
            settings.client_id,
            settings.address,
            connection.state,
            connection.outbox.count,
        )

    @property
    def client_id(self) -> str:
        """The device's id."""
        return self._connection.settings.client_id

    @property
    def state(self) -> str:
        """starting, connecting, connected, waiting (back-off) or closed."""
        return self._connection.state

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and has not gone since."""
        return self._connection.state == "connected"

    @property
    def last_error(self) -> "Exception | None":
        """What went wrong last, with its remedy; None if nothing has since `start`."""
        return self._connection.last_error

    @property
    def pending(self) -> int:
        """How many messages the broker has not acknowledged yet: those that wait and in flight."""
        return self._connection.outbox.count

    @property
    def stats(self) -> "dict[str, int]":
        """What was counted since this client was made.

        sent, acknowledged, received, connects, reconnects, failures, dropped, parked (how many are
        now), outside (not this device's to do, as far as the bundle knows). Of what came in:
        oversized, dropped_in (no room), unhandled (no handler), not_run_again (acknowledged without
        a run, since it had been handled), and catch_ups, how often the client reconnected for what
        it had left to the broker. With the durable outbox also journal_bytes, journal_damaged,
        journal_failures, unstored. From the first attempt on also certificate_days: how long this
        device's certificate is valid, less than 0 once it has ended; not without one, or where the
        clock is plainly wrong.
        """
        outbox = self._connection.outbox
        stats = outbox.counters()
        stats.update(self._connection.counters)
        stats["parked"] = self._connection.parked
        stats["reconnects"] = max(0, stats["connects"] - 1)
        overflowed = self._connection.admission.overflowed
        stats["dropped"] = outbox.dropped + outbox.expired + overflowed
        return stats

    def on_state(self, handler: "Callable[[str], None] | None") -> None:
        """Have `handler(state)` called in `wait` or `poll` for each change of `state`."""
        check_function("on_state", handler, True)
        self._connection.make_inbox().on_state = handler

    def on_error(self, handler: "Callable[[Exception], None] | None") -> None:
        """Have `handler(exception)` called for each exception that leaves a handler, and for what
        went wrong with the connection.

        Why there is no connection, or what ended it: each kind once, until there is one again; each
        subscription that was refused, and message that was parked; ClientCertificateExpiring, once
        a day. It is called in `wait` or `poll`, and all of it is logged in any case.
        """
        check_function("on_error", handler, True)
        self._connection.make_inbox().on_error = handler

    def _make_loop(self, connection: Connection) -> "Turner":
        """Return what turns the connection's loop."""
        return Loop(connection)

    # Messages

    def _put(
        self,
        topic: str,
        payload: object,
        qos: int,
        retain: bool,
        expires_s: "float | None",
        newest_only: bool,
        sync: bool,
    ) -> Delivery:
        """Put a message into the outbox: see `Client.publish`. `sync`: and wait for the storage of
        a durable one.
        """
        connection = self._connection
        known = self._known_topic
        plain = type(qos) is int and 0 <= qos <= 2 and type(retain) is type(newest_only) is bool
        if known is None or topic != known[0] or not plain:
            known = topic, full_topic(connection.settings, topic, qos, retain)
            check_flag("newest_only", newest_only)
            allowed = _is_allowed(connection, connection.settings.may_publish, known[1], False)
            limited = connection.settings.limits is not None  # then QoS and retain count, too
            self._known_topic = known if allowed and not limited else None
        if type(payload) is not bytes:
            payload = encode(payload)
        now = now_ms()
        expires_ms: "int | None" = None
        if expires_s is not None:
            expires_ms = now + milliseconds(expires_s, "expires_s")
        delivery = Delivery(known[1], payload, qos, retain, expires_ms, connection)
        accepted = None
        if fits(delivery.topic, payload, connection.max_publish_bytes):
            accepted = connection.admission.enqueue(delivery, newest_only, now, sync)
        if accepted is None:
            with temporary():
                from . import lifecycle

                raise lifecycle.refusal(connection, delivery)
        return accepted

    def _subscribe(
        self, topic_filter: str, handler: "Callable[[Message], None]", qos: int, later: bool
    ) -> None:
        """Have `handler(message)` called for what comes under a filter, which was checked."""
        connection = self._connection
        _is_allowed(connection, connection.settings.may_subscribe, topic_filter, True)
        # What will be needed for what comes: loaded now, it lies with what else stays.
        connection.make_inbox()
        with temporary():
            from . import lifecycle

            lifecycle.subscribe(connection, topic_filter, handler, qos, later)

    def _unsubscribe(self, topic_filter: str) -> None:
        if self._connection.inbox is not None:  # else there is no subscription
            with temporary():
                from . import lifecycle

                lifecycle.unsubscribe(self._connection, topic_filter)

    def _checked_filter(self, topic_filter: str, qos: int) -> str:
        """Return a filter in full. Raise InvalidTopic, UsageError."""
        return checked_topic(self._connection.settings, topic_filter, qos, True)

    def _check_certificate(self) -> None:
        """Raise ClientCertificateExpired."""
        with temporary():
            from . import bundle

            bundle.check_not_ended(self._connection.settings)


def _is_allowed(
    connection: Connection, filters: "list[str] | None", topic: str, is_filter: bool
) -> bool:
    """Return True if a topic is one of those that this device may use; else count it, and warn.

    None: nothing is known of that. A call that interrupts the client itself is left for the next.
    """
    if filters is None:
        return True
    for one in filters:
        if one[-2:] == "/#" and topic[: len(one) - 1] == one[:-1]:
            return True
    if connection.lock.interrupts():  # a closer look takes a module, which may be half there
        return False
    with temporary():
        from . import lifecycle

        return lifecycle.is_allowed(connection, topic, is_filter)
