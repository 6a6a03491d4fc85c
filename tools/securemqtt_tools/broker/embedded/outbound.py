"""Delivery of QoS 1 and 2 messages for the embedded broker: a window per client, and nothing lost
when it disconnects.

amqtt forgets a message when the client does not acknowledge it, be it that the connection ends, be
it after 5 s.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from amqtt.errors import AMQTTError, MQTTError, ProtocolHandlerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import OutgoingApplicationMessage

from securemqtt_tools.broker.config import Limits

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """A message for a client that is not there, or cannot keep up."""

    topic: str
    data: bytes
    qos: int | None


class Backlog(asyncio.Queue[Waiting]):
    """What waits for one client: bounded in messages and bytes, the newest are dropped beyond that,
    as Mosquitto does.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._bytes = 0

    def _put(self, item: Waiting) -> None:
        size = len(item.topic) + len(item.data)
        if (
            self.qsize() >= self._limits.queued_messages
            or self._bytes + size > self._limits.queued_bytes
        ):
            _log.warning(
                "the queue of an absent client is full: a message on %s was dropped", item.topic
            )
            return
        self._bytes += size
        super()._put(item)

    def _get(self) -> Waiting:
        item: Waiting = super()._get()
        self._bytes -= len(item.topic) + len(item.data)
        return item


class OutboundWindow:
    """Takes the place of amqtt's handler wherever the broker sends a message to one connection."""

    def __init__(
        self, handler: BrokerProtocolHandler, backlog: Backlog | None, limits: Limits
    ) -> None:
        self._handler = handler
        self._backlog = backlog  # None for a clean session: it ends with its connection
        self._window = asyncio.Semaphore(limits.in_flight)
        self._limits = limits
        self._pending_bytes = 0
        self._pending = 0
        self._closed = False

    def close(self) -> None:
        """Say that the connection has ended: what is still to be sent goes to the backlog."""
        self._closed = True

    async def mqtt_publish(
        self, topic: str, data: bytes, qos: int | None, retain: bool, ack_timeout: int | None = None
    ) -> OutgoingApplicationMessage | None:
        """Send a message and wait until the client has it; when it does not get it, keep it for the
        next connection.
        """
        size = len(topic) + len(data)
        limits = self._limits
        if (
            self._pending >= limits.queued_messages
            or self._pending_bytes + size > limits.queued_bytes
        ):
            _log.warning("a client is too slow: a message on %s was dropped", topic)
            return None
        self._pending += 1
        self._pending_bytes += size
        try:
            async with self._window:
                if not self._closed:
                    return await self._handler.mqtt_publish(topic, data, qos, retain, ack_timeout)
        except asyncio.CancelledError:
            self._keep(Waiting(topic, data, qos))
            raise
        except (TimeoutError, asyncio.TimeoutError):
            # Silent for 5 s with a full window: end the connection, so that it comes back and gets
            # what it has missed.
            if self._handler.writer is not None:
                await self._handler.writer.close()
        except (AMQTTError, MQTTError, ProtocolHandlerError, OSError) as error:
            _log.info("a message on %s could not be sent: %s", topic, error)
        finally:
            self._pending -= 1
            self._pending_bytes -= size
        self._keep(Waiting(topic, data, qos))
        return None

    def _keep(self, message: Waiting) -> None:
        if self._backlog is not None and message.qos:
            self._backlog.put_nowait(message)
