"""What comes in to the embedded broker over one connection: handed on before it is acknowledged.

amqtt itself waits up to 10 s on a new connection for the rest of what the last one left half done,
keeps whole messages of QoS 2 until they are released, and answers no PUBREL that comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import websockets
from amqtt.errors import ProtocolHandlerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket

# So many packets may wait to be answered before no more are read.
_UNANSWERED = 100


class InboundHandler(BrokerProtocolHandler):
    """amqtt's handler, with a way in of our own."""

    def __init__(self, plugins_manager: Any, take: Callable[[PublishPacket], bool]) -> None:
        """`take` handles a message; False: it must not be, and the connection is ended."""
        super().__init__(plugins_manager)
        self._take = take
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
        self._unanswered += 1
        try:
            received = self.session.inflight_in  # of QoS 2, until they are released
            if (qos != 2 or packet_id not in received) and not self._take(publish_packet):
                await self.handle_connection_closed()
            elif qos == 2:
                received[packet_id] = None
                await self._send_packet(PubrecPacket.build(packet_id))
            elif qos == 1:
                await self._send_packet(PubackPacket.build(packet_id))
        finally:
            self._unanswered -= 1

    async def handle_pubrel(self, pubrel: PubrelPacket) -> None:
        """Answer it however often it comes: MQTT-4.3.3-2."""
        self.session.inflight_in.pop(pubrel.packet_id, None)
        await self._send_packet(PubcompPacket.build(pubrel.packet_id))

    async def _send_packet(self, packet: Any) -> None:
        try:
            await super()._send_packet(packet)
        except websockets.ConnectionClosed:  # to amqtt only an OSError is the loss of a connection
            await self.handle_connection_closed()
        except ProtocolHandlerError as error:  # what amqtt makes of a task that is cancelled
            if isinstance(error.__cause__, asyncio.CancelledError):
                raise error.__cause__ from None
            raise
