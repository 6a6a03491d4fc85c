"""What comes in to the embedded broker over one connection: done in the order in which it came,
each before it is acknowledged.

amqtt itself waits up to 10 s on a new connection for the rest of what the last one left half done,
keeps whole messages of QoS 2 until they are released, answers no PUBREL that comes again, and has a
queue for each of SUBSCRIBE and UNSUBSCRIBE, so that they overtake each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import websockets
from amqtt.errors import ProtocolHandlerError
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from amqtt.session import Session

# So many packets may wait to be answered before no more are read.
_UNANSWERED = 100


class Requests(Protocol):
    """What is done for a client. None of it waits, but what is retained, so it is done in the order
    of the packets.
    """

    def take(self, session: Session, packet: PublishPacket) -> bool:
        """Take a message; return False for one that must not be: the connection is ended."""

    async def subscribe(self, session: Session, topics: list[tuple[str, int]]) -> list[int]:
        """Return the codes for SUBACK."""

    def unsubscribe(self, session: Session, topic_filters: list[str]) -> None:
        """Forget subscriptions."""

    async def send_retained(self, session: Session, topics: list[tuple[str, int]]) -> None:
        """Send what is retained, as far as the client may have it. Waits for nothing, but lets
        others have their turns.
        """


class InboundHandler(BrokerProtocolHandler):
    """amqtt's handler, with a way in of our own."""

    def __init__(self, plugins_manager: Any, requests: Requests) -> None:
        super().__init__(plugins_manager)
        self._requests = requests
        self._unanswered = 0

    @property
    def busy(self) -> bool:
        """Whether the client is to wait, since it does not read our answers."""
        return self._unanswered >= _UNANSWERED

    async def start(self) -> None:
        """Begin to read. A loss right at the beginning is told, too."""
        await super().start()
        if self._reader_stopped.is_set() or self._reader_task.done():
            await self.handle_connection_closed()

    async def _retry_deliveries(self) -> None:
        """Do nothing: outbound.py sends again, and of what comes in only ids are kept."""

    async def handle_publish(self, publish_packet: PublishPacket) -> None:
        """Take a message; of QoS 2 by its first copy (MQTT 3.1.1, figure 4.3, method B)."""
        packet_id, qos = publish_packet.packet_id, publish_packet.qos
        session = self.session
        with self._answering():
            received = session.inflight_in  # of QoS 2, until they are released
            new = qos != 2 or packet_id not in received
            if new and not self._requests.take(session, publish_packet):
                await self.handle_connection_closed()
            elif qos == 2:
                received[packet_id] = None
                await self._send_packet(PubrecPacket.build(packet_id))
            elif qos == 1:
                await self._send_packet(PubackPacket.build(packet_id))

    async def handle_subscribe(self, subscribe: SubscribePacket) -> None:
        """Subscribe at once: what is published from now on is the client's."""
        session, topics = self.session, subscribe.payload.topics
        with self._answering():
            codes = await self._requests.subscribe(session, topics)
            await self.mqtt_acknowledge_subscription(subscribe.variable_header.packet_id, codes)
            await self._requests.send_retained(session, topics)

    async def handle_unsubscribe(self, unsubscribe: UnsubscribePacket) -> None:
        """Unsubscribe at once."""
        with self._answering():
            self._requests.unsubscribe(self.session, unsubscribe.payload.topics)
            await self.mqtt_acknowledge_unsubscription(unsubscribe.variable_header.packet_id)

    async def handle_pubrel(self, pubrel: PubrelPacket) -> None:
        """Answer it however often it comes: MQTT-4.3.3-2."""
        with self._answering():
            self.session.inflight_in.pop(pubrel.packet_id, None)
            await self._send_packet(PubcompPacket.build(pubrel.packet_id))

    async def handle_pingreq(self, pingreq: PingReqPacket) -> None:
        """Answer it; who does not read the answers is not read any more, either."""
        with self._answering():
            await super().handle_pingreq(pingreq)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        self._unanswered += 1
        try:
            yield
        finally:
            self._unanswered -= 1

    async def _send_packet(self, packet: Any) -> None:
        try:
            await super()._send_packet(packet)
        except websockets.ConnectionClosed:  # to amqtt only an OSError is the loss of a connection
            await self.handle_connection_closed()
        except ProtocolHandlerError as error:  # what amqtt makes of a task that is cancelled
            if isinstance(error.__cause__, asyncio.CancelledError):
                raise error.__cause__ from None
            raise
