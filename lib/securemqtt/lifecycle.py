"""What happens to a connection once in a while: it stands, it is lost, it ends; it is asked for a
subscription, or refuses a message.

Loaded for the occasion, and forgotten again on a board; connection.py has the rest.
"""

from .log import log, printable
from .messages import Delivery
from .platform import const, now_ms, random_between

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, Protocol

    from .board.watchdog import Watchdog
    from .errors import SecureMQTTError
    from .inbox import Inbox, Subscription
    from .messages import Message
    from .outbox.memory import Outbox
    from .outbox.parked import Entry
    from .platform import Lock
    from .settings import Settings
    from .transport.base import Link

    State = Literal["closed", "starting", "connecting", "connected", "waiting"]

    class Turner(Protocol):
        """What turns the loop: `platform.Loop`, or asyncio's `driver.Driver`."""

        patience_ms: int

        def start(self) -> None:
            """Begin."""

        def stop(self, finish: Callable[[], None]) -> None:
            """Have `finish` called as the last turn."""

        def wake(self) -> None:
            """End a pause, or a wait."""

        def notify(self, delivery: Delivery) -> None:
            """Tell who waits that a message is acknowledged."""

        def wait_for(self, condition: Callable[[], object], timeout_ms: int) -> bool:
            """Serve the network until `condition` holds; return True if it does in time."""

    class Owner(Protocol):
        """The connection, as far as it is seen from here."""

        settings: Settings
        state: State
        link: Link
        outbox: Outbox
        lock: Lock
        inbox: Inbox | None
        watchdog: Watchdog | None
        readying: Iterator[int] | None
        counters: dict[str, int]
        last_error: Exception | None
        reason: Exception | None
        reasons_told: list[type]
        moment_ms: int
        sent_topic: str
        sent_bytes: int
        hung_up_in_a_row: int
        max_publish_bytes: int
        failures_in_a_row: int
        unasked_told: bool
        catch_up_ms: int
        told: int

        def set_state(self, state: State) -> None:
            """Change the state, and tell who waits for that."""

        def make_inbox(self) -> Inbox:
            """Return what there is for handlers, made with the first use."""

        def wake(self) -> None:
            """Have the loop look at once at what there is to do."""


# How long a reconnection on purpose waits for what is in flight.
_CATCH_UP_MS = const(2_000)
_UNASKED = (
    "the broker says that it has kept a session, though a clean one was asked for: it is taken for "
    "none, and subscriptions are made again. What to do: nothing here; the broker breaks "
    "MQTT-3.2.2-1, so tell those who run it"
)


def connected(connection: "Owner", session_present: bool) -> None:
    """The broker has accepted us: say so, and ask for what it does not know any more."""
    connection.moment_ms = now_ms()
    if connection.inbox is not None:
        connection.inbox.begin(session_present, connection.link.session.in_doubt)
        _made_again(connection.inbox, session_present)
    if connection.link.session.unasked and not connection.unasked_told:
        connection.unasked_told = True
        log("warning", _UNASKED)
    connection.counters["connects"] += 1
    connection.reason = None
    connection.reasons_told = []
    connection.catch_up_ms = connection.settings.hosts_tried = 0
    with connection.lock:
        if connection.outbox.parking is not None:
            connection.outbox.parking.connected(connection.link, session_present)
    if connection.settings.status:
        connection.link.send(_status(connection, b"online"))
    connection.sent_topic = ""
    resumed = ", session resumed" if session_present else ""
    again = connection.counters["connects"] > 1 and not connection.settings.clean_session
    if again and not (session_present or connection.link.session.in_doubt):
        resumed = "; it has no session of ours any more: restarted, or too long ago"
    connection.set_state("connected")
    log("info", "connected to " + connection.settings.address + resumed)


def lost(connection: "Owner", error: Exception) -> None:
    """An attempt failed, or the connection is gone: note why, and when to try again."""
    from .errors import SecureMQTTError
    from .protocol.backoff import next_delay

    now = now_ms()
    trying = connection.state == "connecting" and connection.readying is None
    if trying and connection.watchdog is not None:
        connection.watchdog.alive(now)  # it was no fault of the board that the attempt failed
    connection.readying = None
    if connection.state == "connected":
        from .diagnosis.translate import hung_up  # which has translated it, just before

        error, connection.hung_up_in_a_row = hung_up(error, _lived_ms(connection), connection)
    else:
        connection.hung_up_in_a_row = 0
    connection.last_error = connection.reason = error
    connection.counters["failures"] += 1
    # It may be MemoryError, where there was no memory even for an error of ours.
    transient = error.transient if isinstance(error, SecureMQTTError) else True
    before, lived_ms = connection.failures_in_a_row, _lived_ms(connection)
    delay_ms, connection.failures_in_a_row = next_delay(random_between, before, lived_ms, transient)
    if connection.state == "connected":
        bound_ms = _struck(connection, error, now)
        if bound_ms:
            delay_ms = min(delay_ms, random_between(0, bound_ms))
    if connection.settings.turn_to_next() and trying:  # a round over several is one failure
        delay_ms, connection.failures_in_a_row = 0, before
    connection.moment_ms = now + delay_ms
    connection.set_state("waiting")
    log("warning", "{} Next attempt in {:.1f} s.".format(error, delay_ms / 1000))
    inbox = connection.inbox
    if inbox is not None and inbox.on_error and type(error) not in connection.reasons_told:
        connection.reasons_told.append(type(error))
        inbox.new_error(error)


def _tell(connection: "Owner", error: Exception) -> None:
    if connection.inbox is not None:
        connection.inbox.new_error(error)


def catch_up(connection: "Owner") -> None:
    """Connect anew, for what the inbox left to the broker: no more comes before that.

    In order, so that no will is sent: what was handled is acknowledged, and what is in flight has
    2 s for that.
    """
    link = connection.link
    if connection.inbox is not None:
        connection.inbox.answer(link)
    if not connection.catch_up_ms:
        connection.catch_up_ms = now_ms() + _CATCH_UP_MS
    if link.session.room() == connection.settings.window or now_ms() >= connection.catch_up_ms:
        link.leave()
        with connection.lock:
            connection.outbox.ended(link, now_ms())
        connection.counters["catch_ups"] += 1
        connection.set_state("connecting")
        connection.readying = iter(())  # all is: the loop opens the link once it has left


def _struck(connection: "Owner", error: Exception, now: int) -> int:
    """Note whether a message may be why a connection was lost; return within how many ms the next
    attempt is to come then, 0 for the usual back-off.
    """
    from .errors import ConnectionLost

    by_peer = isinstance(error, ConnectionLost)
    outbox = connection.outbox
    with connection.lock:
        if outbox.parking is None:
            if not by_peer or not outbox.count:
                return 0
            from .outbox.parking import Parking

            outbox.parking = Parking(outbox)
        parked, bound_ms = outbox.parking.lost(connection.link, by_peer, now)
    if parked is not None:
        connection.failures_in_a_row = 0  # these had a cause, and it is put aside
        _tell_parked(connection, parked)
    return bound_ms


def _tell_parked(connection: "Owner", entry: "Entry") -> None:
    from .errors import MessageRefused

    delivery = entry.delivery
    what = "{} ends the connection at a message of {} bytes on {}, so it was put aside".format(
        connection.settings.address, len(delivery.payload), printable(delivery.topic)
    )
    connection.last_error = error = MessageRefused(what)
    delivery.error = error
    log("error", str(error))
    _tell(connection, error)
    connection.wake()


def look_at_certificate(connection: "Owner") -> None:
    """Count the days that this device's certificate is still valid, and warn of its end."""
    from . import bundle

    days, warning = bundle.days_left(connection.settings)
    if days is not None:
        connection.counters["certificate_days"] = days
    if warning is not None:
        log("warning", str(warning))
        _tell(connection, warning)


def finish(connection: "Owner") -> "Iterator[None]":
    """Return a generator that leaves in order; it yields while the link is to be served for it."""
    from .protocol.backoff import lasting

    return _finishing(connection, lasting)


def _finishing(connection: "Owner", lasting: "Callable[[int, int], int]") -> "Iterator[None]":
    connection.told = connection.outbox.count
    if connection.told:
        log("warning", "leaving with {} messages undelivered".format(connection.told))
    link = connection.link
    if link.up:
        if connection.inbox is not None:
            connection.inbox.answer(link, True)  # else what was handled would come again
        if connection.settings.status:
            link.send(_status(connection, b"offline"))
        link.leave()
    while link.leaving:
        yield
    link.close()  # what was only being opened
    connection.readying = None
    with connection.lock:
        connection.outbox.ended(link, now_ms())
    connection.failures_in_a_row = lasting(connection.failures_in_a_row, _lived_ms(connection))
    connection.outbox.release()
    connection.set_state("closed")


def given_up(connection: "Owner", timeout_s: float) -> Exception:
    """Return the error that says why `connect` has failed."""
    error = connection.reason
    if isinstance(error, MemoryError):
        from .errors import OutOfMemory

        return OutOfMemory()
    if error is None:
        from .errors import TimedOut

        what = "no connection to {} within {} s"
        return TimedOut(what.format(connection.settings.address, timeout_s))
    return error


def refusal(connection: "Owner", delivery: Delivery, overflowed: bool = False) -> "SecureMQTTError":
    """Return the error for a message that the outbox did not take; `overflowed`: since too many had
    interrupted the client at once.
    """
    from .errors import MessageTooLarge, OutboxFull

    outbox = connection.outbox
    size = len(delivery.payload) + len(delivery.topic.encode())
    if size > connection.max_publish_bytes - 9:
        with connection.lock:
            outbox.dropped += 1
        what = "a message of {} bytes on {} does not fit into a packet of {}".format(
            len(delivery.payload), printable(delivery.topic), connection.max_publish_bytes
        )
        return MessageTooLarge(what, variant="limit")
    size = outbox.size(delivery)
    if size > outbox.max_bytes:
        what = "{} bytes do not fit into an outbox of {}".format(size, outbox.max_bytes)
        return MessageTooLarge(what)
    failure = outbox.failure
    if failure is not None:
        # A new one each time: MicroPython adds to the traceback of one that is raised again.
        return type(failure)(failure.what, failure.code, cause=failure.cause, remedy=failure.remedy)
    if overflowed:
        return OutboxFull(
            "more came from callbacks at once than can wait for the client's own work"
        )
    return OutboxFull("{} messages wait for the broker".format(outbox.count))


def refused_late(
    connection: "Owner", delivery: Delivery, error: "Exception | None", overflowed: bool
) -> None:
    """Tell that the outbox did not take a message when `publish` had returned already."""
    error = connection.last_error = error or refusal(connection, delivery, overflowed)
    what = "a message on {}, published while the client was interrupted, was dropped. {}"
    log("error", what.format(printable(delivery.topic), error))


def is_allowed(connection: "Owner", topic: str, is_filter: bool) -> bool:
    """Return True if the broker's rules, as the bundle has them, give a topic to this device; else
    warn of the first one in words, and count the others.
    """
    from .protocol.topics import covers

    settings = connection.settings
    allowed = (settings.may_subscribe if is_filter else settings.may_publish) or ()
    if any(covers(one, topic) for one in allowed):
        return True
    with connection.lock:
        connection.counters["outside"] += 1
        first = connection.counters["outside"] == 1
    if first:
        what = (
            "{} may not {} {} by its bundle, and the broker will not say so: it may {} {}. To do: "
            "use such a topic (~ is {}); or give it a role or rule at the broker; then, or if it "
            "has one, provision it again. More of this is only counted: stats['outside']."
        )
        verb = "subscribe to" if is_filter else "publish to"
        here = " ".join(allowed) or "nothing"
        shown = verb, printable(topic), verb, here, settings.prefix
        log("warning", what.format(settings.client_id, *shown))
    return False


def _lived_ms(connection: "Owner") -> int:
    """Return how long the connection has stood, 0 if there is none."""
    return now_ms() - connection.moment_ms if connection.state == "connected" else 0


def _status(connection: "Owner", payload: bytes) -> Delivery:
    return Delivery(connection.settings.prefix + "/status", payload, 0, True)


# Subscriptions


def subscribe(
    connection: "Owner",
    topic_filter: str,
    handler: "Callable[[Message], None]",
    qos: int,
    later: bool,
) -> None:
    """Make a subscription, or change one: a handler takes the place of the one before."""
    inbox = connection.make_inbox()
    with inbox.lock:
        subscription = inbox.subscriptions.get(topic_filter)
        if subscription is None:
            subscription = inbox.add(topic_filter)
        subscription.handler = handler
        subscription.later = later
        inbox.hand_over_early(topic_filter)
        _ask(inbox, topic_filter, subscription, qos, connection.link.up)
    connection.wake()


def unsubscribe(connection: "Owner", topic_filter: str) -> None:
    """Forget a subscription, here and at the broker; nothing if there is none."""
    inbox = connection.make_inbox()
    with inbox.lock:
        subscription = inbox.subscriptions.get(topic_filter)
        if subscription is not None:
            subscription.handler = None
            _ask(inbox, topic_filter, subscription, -1, connection.link.up)
    connection.wake()


def _made_again(inbox: "Inbox", session_present: bool) -> None:
    """Ask a new connection for what the broker does not know any more."""
    with inbox.lock:
        inbox.requests = []
        for topic_filter, subscription in inbox.subscriptions.items():
            subscription.unanswered = 0
            if not (subscription.granted and session_present):
                _ask(inbox, topic_filter, subscription, subscription.qos, True)


def _ask(
    inbox: "Inbox", topic_filter: str, subscription: "Subscription", qos: int, up: bool
) -> None:
    subscription.qos = qos
    subscription.granted = False
    if up:  # else `_made_again` does it
        subscription.unanswered += 1
        inbox.requests.append((topic_filter, qos))
