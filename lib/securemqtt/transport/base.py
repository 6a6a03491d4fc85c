"""The seam between a connection and the library that carries it.

A `Link` is one device's way to its broker. It is made once and opened again after each loss. Only
the loop in connection.py calls it, from one thread; `wake` alone may be called from any. What
happens on the network it tells its `Owner`, from inside `serve` and nowhere else.

For type checkers and readers: not copied to a board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..messages import Delivery, Message
from ..settings import Settings

if TYPE_CHECKING:
    from ..board.watchdog import Watchdog
    from ..diagnosis.finding import Stage
    from ..protocol.session import Reader, Session


class Owner(Protocol):
    """What a link calls: the connection."""

    watchdog: Watchdog | None
    """A board's, to be fed amid what takes long."""

    def connected(self, session_present: bool) -> None:
        """CONNACK came with return code 0; what was in flight has been written again, first.

        A session is not taken for ours where an earlier attempt wrote CONNECT and saw no CONNACK:
        a broker that had lost our session made a new one then.
        """

    def acknowledged(self, delivery: Delivery) -> None:
        """PUBACK or PUBCOMP came for it, or, for QoS 0, it was handed to the socket."""

    def patience_ms(self) -> int:
        """Return how long a probing connection may take, at most 5 s."""

    def make_inbox(self) -> Receiver:
        """Return who takes what comes in; made with the first use."""


class Receiver(Protocol):
    """What a link calls for what a device does beside sending: the inbox."""

    def received(self, message: Message, oversized_bytes: int) -> None:
        """PUBLISH came. For QoS 1 and 2 the link acknowledges it when `acknowledge` is called.

        `oversized_bytes` is 0, or its size above max_packet_bytes: then it has no payload.
        """

    def released(self, packet_id: int) -> None:
        """PUBREL came for a QoS 2 message; PUBCOMP is sent."""

    def subscribed(self, topic_filter: str, granted: bool) -> None:
        """SUBACK came for one filter."""

    def unsubscribed(self, topic_filter: str) -> None:
        """UNSUBACK came for one filter."""


class Link(Protocol):
    """One device's way to its broker.

    Every error that leaves it is one of `errors.py`, and then it is closed.
    """

    up: bool
    """CONNACK has come, and the connection has not been lost or closed since."""
    session: Session
    """Ids, window and keep-alive; `session.answers` counts what `acknowledge` wrote."""
    heard: bool
    """The last `serve` has read something: on a board there may be more."""
    max_publish_bytes: int
    """The largest PUBLISH that it can write, its fixed header included."""

    def __init__(self, settings: Settings, owner: Owner) -> None:
        """Read the bundle's files. Raise BundleError for what is wrong with them."""

    def open(self) -> None:
        """Start an attempt: resolve, connect, handshake, CONNECT.

        `serve` carries it on; it fails after connect_timeout_s at the latest.
        """

    def serve(self, wait_ms: int) -> None:
        """Write what is pending, wait up to `wait_ms` for the network, handle what came.

        Return early once something did. An attempt that is under way goes on. On a board a look-up
        of a name blocks for as long as its resolver does.
        """

    def wake(self) -> None:
        """Make a `serve` that waits in another thread return."""

    def room(self) -> int:
        """Return how many QoS 1 and 2 messages the window can take now."""

    def send(self, delivery: Delivery, packet_id: int = 0, dup: int = 0) -> None:
        """Send a message; the caller asked `room` first.

        One that was withheld has its packet id still, and `dup` is 8 within a session that was
        kept.

        It stays in the window, over reconnects, until it is acknowledged. Raise MemoryError where
        not even the window could take it; the message is then the caller's again.
        """

    # For a message at which the broker may hang up: see outbox/parking.py

    def ping(self) -> None:
        """Send PINGREQ, though none is due; `session.pongs` counts the answers."""

    def is_released(self, packet_id: int) -> bool:
        """Return True if PUBREC has come for a message in flight: PUBREL is what goes out again."""

    def request(self, topic_filter: str, qos: int) -> None:
        """Send SUBSCRIBE, or UNSUBSCRIBE where `qos` is -1."""

    def acknowledge(self, message: Message) -> None:
        """Write PUBACK or PUBREC for a message that has come on this connection, which is up."""

    # The end

    leaving: bool
    """`leave` was called, and is not done yet."""

    def leave(self) -> None:
        """Begin to leave in order: write what is pending and DISCONNECT, then hear the broker out.

        `serve` carries that on, and raises nothing meanwhile; it takes 5 s at most. The connection
        counts as lost from now on: `up` is False. Where there is none, nothing is left to do.
        """

    def close(self) -> None:
        """Drop the connection at once. Never raises."""


class BoardLink(Protocol):
    """The link of a board, as opening.py and umqtt_receiving.py see it."""

    settings: Settings
    owner: Owner
    up: bool
    sock: BoardStream
    """umqtt's name for what it writes to."""
    session: Session
    reader: Reader
    released: set[int]
    """Ids of QoS 2 messages that the broker has: PUBREL is sent again for them."""
    deadline_ms: int
    """For the attempt, then for a packet that has begun; 0 if there is none."""
    connection_number: int
    connect_packet: bytes
    """What is written first, while an attempt is under way."""

    def send(self, delivery: Delivery, packet_id: int = 0, dup: int = 0) -> None:
        """Send a message, anew or again."""


class SocketHolder(Protocol):
    """What `opening.opening` finds a socket for: a board's stream, or its probing connection."""

    stage: Stage
    """How far the attempt has come, for the diagnosis."""
    raw: Any
    """The socket, once it is connected."""


class BoardStream(SocketHolder, Protocol):
    """The stream of a board's link."""

    def write(self, data: Any, size: int | None = None) -> None:
        """Collect what is to be written."""
