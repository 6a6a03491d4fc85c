"""What a client does once per connection, or rarely: not kept in a board's memory, see
`_compat.rarely`.

Each function is a method of `Client` that lives here; `client.py` holds what runs for each message.
"""

import random

from ._compat import TYPE_CHECKING, log, now_ms, rarely, stop_loop, wake
from .backoff import lasting, next_delay
from .failure import failure
from .outbox import Delivery
from .topics import expand, fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import Client
    from .errors import SecureMQTTError
    from .messages import Incoming, Message


def given_up(client: "Client", timeout_s: float) -> "SecureMQTTError":
    """Stop trying: give the error that says why `connect` has failed."""
    error = client._reason
    stop_loop(client, lambda: finish(client))
    return error or failure(
        "TimedOut", "no connection to {} within {} s".format(_peer(client), timeout_s)
    )


def disconnect(client: "Client", timeout_s: float) -> None:
    """See Client.disconnect."""
    if client.state == "closed":
        return
    if client.connected:
        client.flush(timeout_s)
    if client._outbox.count:
        log("warning", "leaving with {} messages undelivered".format(client._outbox.count))
    stop_loop(client, lambda: finish(client))


def finish(client: "Client") -> None:
    """Leave: the last turn of the loop."""
    link = client._link
    orderly = link.up
    if orderly and client._settings["status"]:
        link.send(_status(client, b"offline"))
    link.close(orderly)
    client._failures = lasting(client._failures, _lived_ms(client))
    if client._outbox.sync:
        rarely("journal_start").park(client._outbox)
    client._set_state("closed")


def up(client: "Client", session_present: bool) -> None:
    """The broker has accepted us: say so, and subscribe again to what it does not know any more."""
    client._moment_ms = now_ms()
    client._stats["connects"] += 1
    told = client._incoming
    if told:
        with client._lock:
            told.requests = []
            for topic_filter, subscription in told.subscriptions.items():
                subscription[2] = subscription[2] and session_present
                subscription[3] = 0
                if not subscription[2]:
                    _request(client, told, topic_filter, subscription[1])
    if client._settings["status"]:
        client._link.send(_status(client, b"online"))
    log("info", "connected to " + _peer(client) + (", session resumed" if session_present else ""))
    client._set_state("connected")


def lost(client: "Client", error: "SecureMQTTError") -> None:
    """An attempt failed, or the connection is gone: note why, and when to try again."""
    now = now_ms()
    if (
        client.state == "connecting"
        and client._readying is None
        and client._settings["watchdog"] is not None
    ):
        # it was no fault of the board that the attempt failed
        client._settings["watchdog"].alive(now)
    client._readying = None
    client.last_error = client._reason = error
    client._stats["failures"] += 1
    delay_ms, client._failures = next_delay(
        random.randint, client._failures, _lived_ms(client), error.transient
    )
    client._moment_ms = now + delay_ms
    log("warning", "{} Next attempt in {} ms.".format(error, delay_ms))
    client._set_state("waiting")


def subscribe(
    client: "Client", topic_filter: str, handler: "Callable[[Message], None]", qos: int
) -> None:
    """See Client.subscribe."""
    if not 0 <= qos <= 2:
        raise unknown_qos(qos)
    topic_filter = checked(client, topic_filter, True)
    # What will be needed for what comes: loaded now, it lies with what else stays, not between what
    # is lent.
    from .messages import incoming

    with client._lock:
        _set(client, incoming(client), topic_filter, handler, qos)
    wake(client)


def unsubscribe(client: "Client", topic_filter: str) -> None:
    """See Client.unsubscribe."""
    topic_filter = checked(client, topic_filter, True)
    with client._lock:
        told = client._incoming
        if told and topic_filter in told.subscriptions:
            _set(client, told, topic_filter, None, -1)
    wake(client)


def _set(
    client: "Client",
    told: "Incoming",
    topic_filter: str,
    handler: "Callable[[Message], None] | None",
    qos: int,
) -> None:
    subscription = told.subscriptions.setdefault(topic_filter, [None, 0, False, 0])
    subscription[:3] = [handler, qos, False]
    _request(client, told, topic_filter, qos)


def _request(client: "Client", told: "Incoming", topic_filter: str, qos: int) -> None:
    if client._link.up:  # else `up` does it
        told.subscriptions[topic_filter][3] += 1
        told.requests.append((topic_filter, qos))


def subscribed(client: "Client", topic_filter: str, granted: bool) -> None:
    """See backends/contract.py."""
    with client._lock:
        subscription = client._incoming and client._incoming.subscriptions.get(topic_filter)
        if subscription:
            subscription[3] -= 1
            if subscription[3] <= 0:  # else this was not the answer to what was asked for last
                subscription[2] = granted and subscription[1] >= 0
    if not granted:
        client.last_error = failure(
            "SubscriptionRefused", "the broker refused the subscription to " + topic_filter
        )
        log("warning", str(client.last_error))


def unsubscribed(client: "Client", topic_filter: str) -> None:
    """See backends/contract.py."""
    told = client._incoming
    with client._lock:
        subscription = told and told.subscriptions.get(topic_filter)
        if told and subscription:
            subscription[3] -= 1
            if subscription[3] <= 0 and subscription[1] < 0:
                del told.subscriptions[topic_filter]


def oversized(client: "Client", topic: str, size: int) -> None:
    """See backends/contract.py."""
    client._stats["oversized"] += 1
    log(
        "warning",
        "a message of {} bytes on {} is larger than max_packet_bytes: thrown away".format(
            size, topic
        ),
    )


def checked(client: "Client", topic: str, is_filter: bool) -> str:
    """Return a topic with `~` put into words; raises InvalidTopic."""
    topic = expand(topic, client.client_id) if isinstance(topic, str) else topic
    wrong = fault(topic, is_filter)
    if wrong:
        raise failure(
            "InvalidTopic",
            "{!r} is no topic {}: {}".format(topic, "filter" if is_filter else "name", wrong),
        )
    return topic


def unknown_qos(qos: int) -> "SecureMQTTError":
    """Make the error for a QoS that MQTT does not know."""
    return failure("UsageError", "there is no QoS {}: 0, 1 or 2".format(qos))


def refused(client: "Client", delivery: Delivery) -> "SecureMQTTError":
    """Make the error for a message that the outbox did not take."""
    outbox = client._outbox
    outbox.dropped += 1
    size = outbox.size(delivery)
    if size > outbox.max_bytes:
        return failure(
            "MessageTooLarge",
            "{} bytes do not fit into an outbox of {}".format(size, outbox.max_bytes),
        )
    if outbox.failure:
        return outbox.failure
    return failure("OutboxFull", "{} messages wait for the broker".format(outbox.count))


def _lived_ms(client: "Client") -> int:
    """Return how long the connection has stood, 0 if there is none."""
    return now_ms() - client._moment_ms if client.connected else 0


def _status(client: "Client", payload: bytes) -> Delivery:
    return Delivery(expand("~/status", client.client_id), payload, 0, True)


def _peer(client: "Client") -> str:
    return "{}:{}".format(client._settings["host"], client._settings["port"])
