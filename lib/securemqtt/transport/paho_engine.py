"""paho-mqtt's client without its socket, its threads and its clock."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTProtocolVersion

from ..protocol.session import Session
from ..settings import Settings
from .stream_openssl import Stream


class Engine(mqtt.Client):
    """paho's client with `pipe` in place of a socket, and packet ids from our own window, which
    skips those in use.

    `_create_socket`, `_mid_generate`, `_out_messages` and `_send_publish` are no public names of
    paho's; tests/contract runs on what setup.cfg allows of its versions.
    """

    def __init__(self, settings: Settings, stream: Stream) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=bool(settings.clean_session),
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self.next_id = 0
        self._withheld: dict[int, mqtt.MQTTMessage] = {}
        self.pipe = _Pipe(stream)
        self.max_inflight_messages_set(0)  # no bound here: the window has one
        self.on_socket_register_write = _ignore  # with it, paho writes in `loop_write` only
        if settings.username is not None:
            self.username_pw_set(settings.username, settings.password)
        if settings.will:
            topic, payload, qos, retain = settings.will
            self.will_set(topic, payload, qos, retain)
        self.connect_async(settings.host, settings.port, settings.keep_alive_s)

    def forget(self) -> None:
        """Forget what is in flight."""
        self._out_messages.clear()

    def released(self, packet_id: int) -> bool:
        """Return True if PUBREC has come for a message in flight."""
        message = self._out_messages.get(packet_id)
        return message is not None and message.state in (
            MessageState.MQTT_MS_RESEND_PUBREL,
            MessageState.MQTT_MS_WAIT_FOR_PUBCOMP,
        )

    def withhold(self, session: Session) -> None:
        """Keep what the session withholds from going out again by itself, and let go of what of
        that was given up.
        """
        known = {**self._withheld, **self._out_messages}
        self._withheld = {
            packet_id: known[packet_id]
            for packet_id in session.withheld
            if session.unanswered[packet_id] is not None
        }
        for packet_id in session.withheld:
            self._out_messages.pop(packet_id, None)

    def resend(self, packet_id: int, dup: bool) -> None:
        """Send one of those again."""
        message = self._withheld.pop(packet_id)
        message.dup = dup
        message.state = (
            MessageState.MQTT_MS_WAIT_FOR_PUBACK
            if message.qos == 1
            else MessageState.MQTT_MS_WAIT_FOR_PUBREC
        )
        self._out_messages[packet_id] = message
        self._send_publish(
            packet_id,
            message.topic.encode(),
            message.payload,
            message.qos,
            message.retain,
            message.dup,
        )

    def _create_socket(self) -> Any:
        return self.pipe

    def _mid_generate(self) -> int:
        return self.next_id


def _ignore(client: mqtt.Client, userdata: Any, sock: Any) -> None:
    """Do nothing: the link calls `loop_write` in every turn."""


class _Pipe:
    """What paho takes for its socket."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._packets = b""
        self._at = 0

    def fill(self, packets: bytes) -> None:
        """Give paho packets to read."""
        self._packets = packets
        self._at = 0

    def left(self) -> bool:
        """Return True if paho has packets to read."""
        return self._at < len(self._packets)

    def recv(self, size: int) -> bytes:
        start = self._at
        if start == len(self._packets):
            raise BlockingIOError
        self._at = start + size
        return self._packets[start : start + size]

    def send(self, data: bytes | bytearray) -> int:
        self._stream.write(data)
        return len(data)

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        """Do nothing: the link closes the stream."""

    def setblocking(self, flag: bool) -> None:
        """Do nothing: this never blocks."""
