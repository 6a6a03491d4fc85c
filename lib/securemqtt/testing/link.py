"""The loop's side of the stand-in: a `Link` (transport/base.py) whose broker is a few lists.

It opens no socket, reads no file and verifies nothing, since there is nobody at the other end.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from typing import TYPE_CHECKING

from ..messages import Delivery, Message
from ..protocol.session import Session

if TYPE_CHECKING:
    from ..connection import Connection
    from ..errors import SecureMQTTError
    from ..settings import Settings


class FakeLink:
    """See transport/base.py. `FakeBroker` is the test's side of it; what both touch is guarded by
    the connection's lock.
    """

    max_publish_bytes = 268_435_460
    leaving = False  # it takes no time

    def __init__(self, settings: Settings, owner: Connection) -> None:
        self.up = self.heard = False
        self.settings = settings
        # Nothing is ever in it: this broker hangs up at no message.
        self.session = Session(settings.window)
        self.lock = owner.lock
        self._owner = owner
        self._opening = False
        self._woken = threading.Event()
        self._connection_number = 0
        self._last_id = 0
        # Ours, sent and not acknowledged; oldest first.
        self._in_flight: deque[Delivery] = deque()
        self._requests: deque[tuple[str, int]] = deque()
        # What the broker would remember while no one is connected.
        self._session = False
        self._for_program: deque[Message] = deque()  # to be handed over
        self._unanswered: list[Message] = []  # handed over with QoS 1 or 2, and not handled yet

        self.refusal: SecureMQTTError | None = None  # what is wrong from now on
        self.withheld = False  # whether messages are acknowledged one by one only
        self.released = 0  # how many of them may be, all the same
        self.refused_filters: set[str] = set()
        self.granted: dict[str, int] = {}  # subscriptions that the broker has
        self.arrived: list[Message] = []  # what the program published
        self.handled: list[Message] = []  # what it acknowledged
        self.passes = 0  # how often `serve` has come to its end
        self.hurry_until = 0  # before so many, nothing is waited for: a test waits for them

    # What the connection calls

    def open(self) -> None:
        self._opening = True

    def serve(self, wait_ms: int) -> None:
        try:
            if not self._moved() and self.passes >= self.hurry_until:
                self._woken.wait(wait_ms / 1000)
            self._woken.clear()
        finally:
            with self.lock:
                self.passes += 1
                self.lock.notify_all()

    def wake(self) -> None:
        self._woken.set()

    def room(self) -> int:
        return self.settings.window - len(self._in_flight) if self.up else 0

    def send(self, delivery: Delivery, packet_id: int = 0, dup: int = 0) -> None:
        self._arrive(delivery, False)
        if delivery.qos:
            self._in_flight.append(delivery)
        else:
            self._owner.acknowledged(delivery)

    def ping(self) -> None:
        """Do nothing: nothing is ever suspected."""

    def is_released(self, packet_id: int) -> bool:
        return False

    def request(self, topic_filter: str, qos: int) -> None:
        self._requests.append((topic_filter, qos))

    def acknowledge(self, message: Message) -> None:
        number = message.packet_id
        with self.lock:
            # By its id: one that came again may have joined its first copy.
            self._unanswered = [one for one in self._unanswered if one.packet_id != number]
            self.handled.append(message)
        if message.qos == 2:
            self._owner.make_inbox().released(number)

    def leave(self) -> None:
        self.close()

    def close(self) -> None:
        with self.lock:
            self.up = self._opening = False
            self._requests.clear()
            if self.settings.clean_session:
                self.forget_session()

    # What the test's side calls, with the lock held

    def put(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Have a message for the program: now, or with QoS 1 and 2 once it is connected again."""
        self._last_id = self._last_id % 65535 + 1 if qos else self._last_id
        packet_id = self._last_id if qos else 0
        self._for_program.append(Message(topic, payload, qos, retain, packet_id=packet_id))

    def forget_session(self) -> None:
        """Be a broker that knows nothing of the client any more."""
        self._session = False
        self.granted.clear()
        self._for_program.clear()
        self._unanswered.clear()

    def busy(self) -> bool:
        """Return True if there is something for the client to take, acknowledgements included."""
        unanswered = self._in_flight and (self.released or not self.withheld)
        return bool(self.up and (self._for_program or self._requests or unanswered))

    # In the loop

    def _moved(self) -> bool:
        """Do what there is to do; return False if there was nothing. Raise what is wrong."""
        if not (self.up or self._opening):
            return False
        if self.refusal is not None:
            self.close()
            # A new one each time: one that is raised again carries its old traceback, too.
            raise copy.copy(self.refusal)
        if self._opening:
            self._connected()
            return True
        acknowledged = self._acknowledge()
        answered = self._answer()
        return self._hand_over() or acknowledged or answered

    def _connected(self) -> None:
        with self.lock:
            present = self._session
            if not present:
                self.forget_session()
            self._session = True
            self._opening = False
            self.up = True
            self._connection_number += 1
            for message in reversed(self._unanswered):
                self._for_program.appendleft(_second(message))
            self._unanswered.clear()
        for delivery in self._in_flight:
            if delivery.qos == 1 or not present:
                self._arrive(delivery, present)
        self._owner.connected(present)

    def _arrive(self, delivery: Delivery, dup: bool) -> None:
        if delivery.waiter is not None:  # else it is the library's own, on ~/status
            message = Message(
                delivery.topic, delivery.payload, delivery.qos, delivery.retain, dup=dup
            )
            with self.lock:
                self.arrived.append(message)

    def _acknowledge(self) -> bool:
        moved = False
        while self._in_flight and (self.released or not self.withheld):
            with self.lock:
                self.released = max(0, self.released - 1)
            self._owner.acknowledged(self._in_flight.popleft())
            moved = True
        return moved

    def _answer(self) -> bool:
        moved = bool(self._requests)
        while self._requests:
            topic_filter, qos = self._requests.popleft()
            granted = qos >= 0 and topic_filter not in self.refused_filters
            with self.lock:
                if granted:
                    self.granted[topic_filter] = qos
                else:
                    self.granted.pop(topic_filter, None)
            if qos < 0:
                self._owner.make_inbox().unsubscribed(topic_filter)
            else:
                self._owner.make_inbox().subscribed(topic_filter, granted)
        return moved

    def _hand_over(self) -> bool:
        moved = bool(self._for_program)
        while self._for_program:
            with self.lock:
                message = self._for_program.popleft()
                message.connection_number = self._connection_number
                if message.qos:
                    self._unanswered.append(message)
            # If there is no room for it, the client connects again for it, as it would.
            self._owner.make_inbox().received(message, 0)
        return moved


def _second(message: Message) -> Message:
    """Return the message as it comes again."""
    return Message(
        message.topic, message.payload, message.qos, message.retain, True, message.packet_id
    )
