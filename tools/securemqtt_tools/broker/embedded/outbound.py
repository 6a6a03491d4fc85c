"""Delivery of the embedded broker's messages to one client: in order, with a window for those that
it has not acknowledged yet, and those again on its next connection.

amqtt itself waits 5 s for each acknowledgement and then forgets the message; a client acknowledges
when its handler has returned, which may take longer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrel import PubrelPacket

from securemqtt_tools.broker.config import Limits

_log = logging.getLogger(__name__)
_PACKET_IDS = 65_535


def size_bytes(topic: str, data: bytes) -> int:
    """Return how much a message counts where its client has a bound."""
    return len(topic.encode()) + len(data)


@dataclass(order=True)
class Outgoing:
    """A message for one client, ordered by the time at which it came."""

    number: int
    topic: str = field(compare=False)
    data: bytes = field(compare=False)
    qos: int = field(compare=False)
    retain: bool = field(compare=False)
    packet_id: int = field(default=0, compare=False)  # 0: never sent
    received: bool = field(default=False, compare=False)  # QoS 2: PUBREC has come


class Backlog(asyncio.PriorityQueue[Outgoing]):
    """What waits for one client: bounded in messages and bytes, the newest are dropped beyond that,
    as Mosquitto does.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._bytes = 0
        self._numbers = itertools.count()
        self._full = False

    def add(self, topic: str, data: bytes, qos: int, retain: bool) -> None:
        """Take a message, or drop it."""
        limits = self._limits  # 0 is none, as for Mosquitto
        full = 0 < limits.queued_messages <= self.qsize() or (
            0 < limits.queued_bytes < self._bytes + size_bytes(topic, data)
        )
        if full and not self._full:
            _log.warning("the queue of a client is full: messages are dropped, first on %s", topic)
        self._full = full
        if not full:
            self.put_nowait(Outgoing(next(self._numbers), topic, data, qos, retain))

    def _put(self, item: Outgoing) -> None:
        self._bytes += size_bytes(item.topic, item.data)
        super()._put(item)

    def _get(self) -> Outgoing:
        item: Outgoing = super()._get()
        self._bytes -= size_bytes(item.topic, item.data)
        return item


class OutboundWindow:
    """Sends to one connection. What its client has not acknowledged goes back to the backlog when
    the connection ends; with QoS 0 it is gone then.
    """

    def __init__(self, handler: BrokerProtocolHandler, backlog: Backlog, limits: Limits) -> None:
        self._handler = handler
        self._backlog = backlog
        self._unacknowledged = Backlog(limits)  # of QoS 0: nothing in there ever is
        self._room = asyncio.Semaphore(limits.in_flight)
        self._in_flight: dict[int, Outgoing] = {}
        self._last_id = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def open(self) -> None:
        """Begin to send: first what was in flight when the last connection ended."""
        self._start(self._send_acknowledged())
        self._start(self._send_unacknowledged())

    def close(self) -> None:
        """Say that the connection has ended."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for message in self._in_flight.values():
            self._backlog.put_nowait(message)
        self._in_flight.clear()

    def end(self, reason: object) -> None:
        """End the connection, as if its client had gone: its will is sent."""
        if not self._closed:
            _log.warning("a connection is ended: %s", reason)
            self._start(self._handler.handle_connection_closed())

    def publish(self, topic: str, data: bytes, qos: int, retain: bool = False) -> None:
        """Have a message sent; never waits."""
        if qos:
            self._backlog.add(topic, data, qos, retain)
        elif not self._closed:
            self._unacknowledged.add(topic, data, qos, retain)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.end(error)

    async def _send_unacknowledged(self) -> None:
        while True:
            message = await self._unacknowledged.get()
            await self._handler._send_packet(_packet(message, again=False))

    async def _send_acknowledged(self) -> None:
        while True:
            await self._room.acquire()
            message = await self._backlog.get()
            again = message.packet_id != 0
            if not again:
                message.packet_id = self._free_id()
            self._in_flight[message.packet_id] = message
            self._start(self._deliver(message, again))

    async def _deliver(self, message: Outgoing, again: bool) -> None:
        """Send a message and wait until the client has it, however long that takes."""
        handler = self._handler
        if not message.received:
            waiters = handler._puback_waiters if message.qos == 1 else handler._pubrec_waiters
            await self._ask(waiters, message, _packet(message, again))
            message.received = True
        if message.qos == 2:
            release = PubrelPacket.build(message.packet_id)
            await self._ask(handler._pubcomp_waiters, message, release)
        del self._in_flight[message.packet_id]
        self._room.release()

    async def _ask(
        self,
        waiters: dict[int, asyncio.Future[Any]],
        message: Outgoing,
        packet: PublishPacket | PubrelPacket,
    ) -> None:
        answer = waiters[message.packet_id] = asyncio.get_running_loop().create_future()
        try:
            await self._handler._send_packet(packet)
            await answer
        finally:
            waiters.pop(message.packet_id, None)

    def _free_id(self) -> int:
        # Those with an id of the connection before come first, and so are in flight by now.
        while True:
            self._last_id = self._last_id % _PACKET_IDS + 1
            if self._last_id not in self._in_flight:
                return self._last_id


def _packet(message: Outgoing, again: bool) -> PublishPacket:
    return PublishPacket.build(
        message.topic,
        message.data,
        message.packet_id or None,
        again,
        message.qos,
        message.retain,
    )
