"""MQTT without TLS, as the control and as an intruder: what this project never does, on loopback
and for a moment.
"""

from __future__ import annotations

import asyncio
import time

import paho.mqtt.client as paho
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from securemqtt_tools.demo.background import Background

_LISTENER = "default"
_EXCHANGE_S = 20.0
_TURN_S = 0.1


class PlaintextBroker:
    """amqtt as it comes, open to all and unencrypted, on a free port of loopback."""

    def __init__(self, background: Background) -> None:
        self.port = 0
        background.run(self._start())

    async def _start(self) -> None:
        listener = ListenerConfig(type=ListenerType.EXTERNAL)
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        self._broker = Broker(BrokerConfig(listeners={_LISTENER: listener}, plugins=plugins))
        await self._broker.start()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._broker.external_connected(
            StreamReaderAdapter(reader), StreamWriterAdapter(writer), _LISTENER
        )
        writer.close()


def exchange(port: int, client_id: str, topic: str, payload: bytes) -> str | None:
    """Connect without TLS, subscribe to `topic` and publish to it; None when the message comes
    back, else why it did not.

    At most 20 s.
    """
    received: list[bytes] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)

    @client.connect_callback()
    def subscribe(*_: object) -> None:
        client.subscribe(topic, qos=1)

    @client.subscribe_callback()
    def publish(*_: object) -> None:
        client.publish(topic, payload, qos=1)

    @client.message_callback()
    def receive(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        received.append(bytes(message.payload))

    deadline = time.monotonic() + _EXCHANGE_S
    try:
        client.connect("127.0.0.1", port)
        while payload not in received:
            code = client.loop(_TURN_S)
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return paho.error_string(code)
            if time.monotonic() > deadline:
                return "no answer"
    except OSError as error:
        return str(error)
    finally:
        client.disconnect()
    return None
