"""The seam between the client and the library that carries it. For type checkers and readers: not
copied to a board.

A `Link` is one device's way to its broker. It is made once and opened again after each loss. Only
the loop in `client.py` calls it, from one thread; `wake` alone may be called from any. What happens
on the network it tells its `Owner`, from inside `serve` and nowhere else.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..messages import Message
from ..outbox import Delivery


class Owner(Protocol):
    """What a link calls: the client."""

    def link_acknowledged(self, delivery: Delivery) -> None:
        """PUBACK or PUBCOMP came for it, or, for QoS 0, it was handed to the socket."""

    def link_message(self, message: Message) -> bool:
        """PUBLISH came.

        For QoS 1 and 2 the link acknowledges it when `ack` is called. False: too many wait, it was
        not taken.
        """

    def link_event(self, event: str, *details: Any) -> None:
        """Something that comes once in a while:

        "up", session_present: bool             CONNACK came with return code 0; what was in flight has been written again, before anything new.
                                                A session is not taken for ours where an earlier attempt wrote CONNECT and saw no CONNACK:
                                                a broker that had lost our session made a new one then
        "subscribed", topic_filter, granted     SUBACK came for one filter
        "unsubscribed", topic_filter            UNSUBACK came
        "oversized", topic, size_bytes          PUBLISH came above max_packet_bytes: it was acknowledged and thrown away unread
        """


class Link(Protocol):
    """One device's way to its broker.

    Every error that leaves it is one of `errors.py`, and then it is closed.
    """

    up: bool
    """CONNACK has come, and the connection has not been lost or closed since."""

    def __init__(self, settings: dict[str, Any], owner: Owner) -> None:
        """Take the settings of `bundle.load`.

        Reads the bundle's files: raises BundleError for what is wrong with them.
        """

    def open(self) -> None:
        """Start an attempt: resolve, connect, handshake, CONNECT.

        `serve` carries it on; it fails after connect_timeout_s at the latest.
        """

    def serve(self, wait_ms: int) -> None:
        """Write what is pending, wait up to `wait_ms` for the network, handle what came; return
        early once something did.

        An attempt that is under way goes on. On CPython the attempt itself may block up to
        connect_timeout_s here.
        """

    def wake(self) -> None:
        """Make a `serve` that waits in another thread return."""

    def room(self) -> int:
        """Return how many QoS 1 and 2 messages the window can take now."""

    def send(self, delivery: Delivery) -> None:
        """Send a message; the caller asked `room` first. It stays in the window, over reconnects,
        until it is acknowledged.

        Raises MemoryError where not even the window could take it; the message is then the caller's
        again.
        """

    def request(self, topic_filter: str, qos: int) -> None:
        """Send SUBSCRIBE, or UNSUBSCRIBE where `qos` is -1."""

    def ack(self, message: Message) -> None:
        """Acknowledge an incoming QoS 1 or 2 message: its handler has returned.

        Ignored if its connection is gone.
        """

    def close(self, orderly: bool) -> None:
        """Drop the connection; `orderly` writes what is pending and DISCONNECT first, within a
        bound of 5 s. Never raises.
        """
