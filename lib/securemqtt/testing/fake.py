"""The test's side of the stand-in: what the program published, and what is to happen to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_flag, check_function, milliseconds
from ..errors import ConnectionLost, SecureMQTTError, UsageError
from ..inbox import matches
from ..log import quoted
from ..messages import encode
from ..protocol.topics import checked
from .link import FakeLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..connection import Connection
    from ..messages import Message
    from ..settings import Settings

# Nothing here takes longer than a moment, however busy the machine is; a test that has locked
# itself in is to end nevertheless.
_PATIENCE_S = 30
_MOST = 1_000_000_000


class ProgramEnded(KeyboardInterrupt):
    """The test ends the program: see `FakeBroker.end_after`.

    To the program it is what Ctrl-C would be, so no `except Exception` keeps it from ending.
    """


class FakeBroker:
    """What a `FakeClient` has in place of a broker and the way there: `client.fake`.

    It accepts everyone, grants every subscription, acknowledges at once, and keeps the session as a
    broker does; the methods change that. They are the test's, in its own thread or a handler's, and
    each returns once the client has taken what it was told, so that nothing is to be waited for.
    Handlers still run in `client.wait` and `client.poll` only.
    """

    _link: FakeLink
    _connection: Connection

    def __init__(self) -> None:
        self._waits_left: int | None = None
        self._waits = 0
        self._before_wait: Callable[[int], None] | None = None

    def make_link(self, settings: Settings, connection: Connection) -> FakeLink:
        """Return the link of the connection that this stands behind; for `FakeClient`."""
        self._connection = connection
        self._link = FakeLink(settings, connection)
        return self._link

    # What the program has done

    @property
    def published(self) -> list[Message]:
        """What the program has published and the network has taken, in that order; a new list.

        Without the library's own messages on `~/status`. What was sent and not acknowledged when
        the connection was lost comes a second time with the next, as with any broker; if that knows
        the session, with `dup` true.
        """
        self.settle()
        with self._link.lock:
            return list(self._link.arrived)

    def published_on(self, topic_filter: str) -> list[Message]:
        """Return what the program has published under a filter, such as `~/temperature`."""
        topic_filter = self._checked(topic_filter, 0, True)
        return [one for one in self.published if matches(topic_filter, one.topic)]

    def wait_for_published(
        self, count: int = 1, topic_filter: str = "#", timeout_s: float = 10
    ) -> list[Message]:
        """Return what was published under a filter once there are `count` messages at least.

        For a program that runs in a thread of its own. Raise TimeoutError, UsageError.
        """
        _check_count("count", count)
        patience_s = milliseconds(timeout_s, "timeout_s") / 1000
        topic_filter = self._checked(topic_filter, 0, True)
        link = self._link

        def found() -> list[Message]:
            return [one for one in link.arrived if matches(topic_filter, one.topic)]

        held = link.lock.wait_until(lambda: len(found()) >= count, patience_s)
        with link.lock:
            if held:
                return found()
            raise TimeoutError(
                f"{len(found())} of {count} messages on {topic_filter} within {timeout_s} s"
            )

    @property
    def handled(self) -> list[Message]:
        """What came with QoS 1 or 2 and was acknowledged, so its handler has returned; a new list.

        The order is that of the acknowledgements.
        """
        self.settle()
        with self._link.lock:
            return list(self._link.handled)

    @property
    def subscriptions(self) -> dict[str, int]:
        """What the program is subscribed to, with the QoS; a new dict."""
        self.settle()
        with self._link.lock:
            return dict(self._link.granted)

    # What is to happen to it

    def deliver(
        self, topic: str, payload: object = b"", qos: int = 1, retain: bool = False
    ) -> None:
        """Send the program a message: the next `wait` or `poll` calls the handler.

        `~` is the client's own prefix; `payload` is what `publish` takes, too. It comes with the
        QoS of the subscription if that is less. While the connection is lost, QoS 1 and 2 wait for
        the next one. Raise UsageError if the program would not get it from a broker either: it has
        no subscription to the topic, or there is no connection.
        """
        topic = self._checked(topic, qos, False)
        check_flag("retain", retain)
        content = encode(payload)
        self.settle()
        link = self._link
        with link.lock:
            granted = [q for one, q in link.granted.items() if matches(one, topic)]
            if not granted:
                raise self._nobody(topic)
            qos = min(qos, max(granted))
            if not (link.up or qos):
                raise _usage(
                    f"the client is {self._connection.state}, so QoS 0 on {topic} would be lost",
                    "connect first, or let both sides have QoS 1",
                )
            link.put(topic, content, qos, retain)
        self.settle()

    def fail(self, error: SecureMQTTError | type[SecureMQTTError] = ConnectionLost) -> None:
        """Lose the connection, and have each attempt fail the same way, until `recover`.

        `error` is what the client gets to see, as it is or by its class: any of
        `securemqtt.errors`.
        """
        if isinstance(error, type) and issubclass(error, SecureMQTTError):
            error = error("the test had the connection fail")
        if not isinstance(error, SecureMQTTError):
            raise _usage(
                f"{error!r} is none of securemqtt's errors, and a link raises no other",
                "use one of securemqtt.errors",
            )
        with self._link.lock:
            self._link.refusal = error
        self._connection.wake()
        self._until("waiting", "closed")

    def recover(self, session_present: bool = True) -> None:
        """End what `fail` began: a client that was started is connected when this returns.

        The back-off is left out. `session_present` false: the broker has lost the session.
        """
        check_flag("session_present", session_present)
        link, connection = self._link, self._connection
        with link.lock:
            link.refusal = None
            if not session_present:
                link.forget_session()
        if self._until("waiting", "connected", "closed") == "waiting":
            connection.start_now()
            self._until("connected", "closed")
        self.settle()

    def withhold_acknowledgements(self) -> None:
        """Acknowledge nothing of what the program publishes, until it is released."""
        with self._link.lock:
            self._link.withheld = True
            self._link.released = 0

    def release_acknowledgements(self, count: int | None = None) -> None:
        """Acknowledge what was withheld: the `count` oldest; None: all, and at once from now on.

        Raise UsageError for what is no such number.
        """
        if count is not None:
            _check_count("count", count)
        with self._link.lock:
            if count is None:
                self._link.withheld = False
            else:
                self._link.released += count
        self.settle()

    def refuse_subscription(self, topic_filter: str) -> None:
        """Grant no subscription to this filter any more."""
        topic_filter = self._checked(topic_filter, 0, True)
        with self._link.lock:
            self._link.refused_filters.add(topic_filter)

    def end_after(self, waits: int, before: Callable[[int], None] | None = None) -> None:
        """End a program that would run for ever: after so many calls of `client.wait`, the next
        raises ProgramEnded.

        Until then each of them hands out what there is, and takes no time. Before it does,
        `before(number)` is called, from 1 on: there a test may `deliver` something. Raise
        UsageError for what is no such number, or no function.
        """
        _check_count("waits", waits)
        check_function("before", before, optional=True)
        self._waits_left = waits
        self._waits = 0
        self._before_wait = before

    # For FakeClient

    @property
    def in_haste(self) -> bool:
        """Whether `client.wait` is to take no time."""
        return self._waits_left is not None

    def begin_wait(self) -> None:
        """Count a `client.wait`. Raise ProgramEnded if it is one too many."""
        if not self._waits_left:
            raise ProgramEnded("the test ends the program")
        self._waits_left -= 1
        self._waits += 1
        if self._before_wait is not None:
            self._before_wait(self._waits)
        self.settle()

    def settle(self) -> None:
        """Wait until the client has sent what it can, and taken what has come.

        The other methods do this by themselves. Raise TimeoutError if that takes half a minute.
        """
        while not self._turned():
            continue

    def _turned(self) -> bool:
        """Have the loop turn with all that was done so far; return True if nothing is left to do,
        or nothing can be done.
        """
        link, connection = self._link, self._connection

        def resting() -> bool:
            return connection.state in ("closed", "waiting")

        with link.lock:
            passes = link.passes + 2  # the one that runs now may have begun too early
            link.hurry_until = max(link.hurry_until, passes)
        connection.wake()
        self._wait_for(lambda: resting() or link.passes >= passes)
        with link.lock:
            unsent = connection.outbox.head is not None and link.room() > 0
            return resting() or not (unsent or link.busy())

    def _until(self, *states: str) -> str:
        seen: list[str] = []

        def there() -> bool:
            seen.append(self._connection.state)
            return seen[-1] in states

        self._wait_for(there)
        return seen[-1]

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        if not self._link.lock.wait_until(condition, _PATIENCE_S):
            raise TimeoutError(
                f"the client, {self._connection.state}, has not moved for {_PATIENCE_S} s; "
                "a function given to log_to must not wait for it"
            )

    def _checked(self, topic: str, qos: int, is_filter: bool) -> str:
        return checked(topic, qos, self._connection.settings.prefix, is_filter)

    def _nobody(self, topic: str) -> UsageError:
        has = ", ".join(self._link.granted) or "none"
        return _usage(
            f"no subscription of the program's takes {topic}; at the broker it has {has}, "
            f"and the client is {self._connection.state}",
            "have the program connect and subscribe first",
        )


def _check_count(name: str, count: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST:
        raise _usage(
            f"{name} must be a whole number from 0 to {_MOST}, not {quoted(count)}",
            "give it such a number",
        )


def _usage(what: str, remedy: str) -> UsageError:
    return UsageError(what, cause="the test asks for what cannot happen", remedy=remedy)
