"""A bare MQTT 3.1.1 client over TLS or WebSockets, for tests that need to see each packet.

Every wait has a deadline.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
from pathlib import Path

from support.identities.credentials import Credentials
from support.network.tls import TlsConnection
from support.packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    Packet,
    answer,
    field,
    packet,
    publish,
    take_packets,
)
from support.speed import seconds

WAIT_S = seconds(20)
_WS_CLOSE = 8


class Refused(Exception):
    """The broker did not accept the connection: in the handshake, by closing, or with the CONNACK
    code in `code`.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


def client_context(ca: Path, credentials: Credentials | None) -> ssl.SSLContext:
    """Make a TLS context that verifies the broker and shows `credentials`, if any."""
    context = ssl.create_default_context(cafile=str(ca))
    if credentials is not None:
        context.load_cert_chain(str(credentials.certificate), str(credentials.key))
    return context


class Peer:
    """One connection to a broker on this machine.

    `Refused` comes from making it or from `connect`.
    """

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext | None,
        *,
        websockets: bool = False,
        session: ssl.SSLSession | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._buffer = bytearray()
        self._packets: list[Packet] = []
        self._packet_id = 0
        self._websockets = websockets
        plain = socket.create_connection((host, port), timeout=WAIT_S)
        self._socket: socket.socket | TlsConnection = plain
        try:
            if context is not None:
                self._socket = TlsConnection(
                    plain, context, server_hostname="localhost", session=session
                )
            if websockets:
                self._upgrade()
        except OSError as error:
            self._socket.close()
            raise Refused(f"handshake: {error}") from error
        except Refused:
            self._socket.close()
            raise

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.drop()

    @property
    def tls(self) -> TlsConnection:
        """What lies below MQTT, to look at its version and its session."""
        assert isinstance(self._socket, TlsConnection)
        return self._socket

    def connect(
        self,
        client_id: str,
        *,
        clean: bool = True,
        # So long that a connection that is closed is not closed for its silence.
        keep_alive_s: int = 3600,
        will: tuple[str, bytes] | None = None,
        will_retain: bool = True,
        username: str | None = None,
        password: str | None = None,
    ) -> bool:
        """Send CONNECT and return session-present; Refused when the broker does not accept."""
        flags = 0x02 if clean else 0
        payload = field(client_id)
        if will is not None:
            # Retained, so that whoever subscribes later would see it as well.
            flags |= 0x04 | (0x20 if will_retain else 0)
            payload += field(will[0]) + field(will[1])
        if username is not None:
            flags |= 0x80
            payload += field(username)
        if password is not None:
            flags |= 0x40
            payload += field(password)
        head = field("MQTT") + struct.pack("!BBH", 4, flags, keep_alive_s)
        self.send(packet(CONNECT, head + payload))
        body = self.wait_for(CONNACK).body
        if body[1] != 0:
            raise Refused(f"CONNACK {body[1]}", code=body[1])
        return bool(body[0] & 1)

    def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """Subscribe and return the return code of SUBACK."""
        self._packet_id += 1
        self.send(answer(SUBSCRIBE, self._packet_id, field(topic_filter) + bytes([qos])))
        return self.wait_for(SUBACK).body[2]

    def publish(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has it."""
        self._packet_id += 1
        self.send(publish(topic, payload, qos, self._packet_id, retain=retain))
        if qos == 1:
            self.wait_for(PUBACK)
        elif qos == 2:
            self.wait_for(PUBREC)
            self.ask(answer(PUBREL, self._packet_id), PUBCOMP)

    def receive(self) -> tuple[str, bytes]:
        """Return topic and payload of the next PUBLISH, and acknowledge it."""
        message = self.receive_unacknowledged()
        self.acknowledge(message)
        return message.topic, message.payload

    def receive_unacknowledged(self) -> Packet:
        """Return the next PUBLISH, and keep its acknowledgement to ourselves."""
        while (got := self.receive_packet()).kind != PUBLISH:
            pass
        return got

    def receive_packet(self) -> Packet:
        """Return the next packet, of whatever kind; Refused when the connection is gone."""
        while not self._packets:
            self._fill()
        return self._packets.pop(0)

    def acknowledge(self, message: Packet) -> None:
        """Answer a PUBLISH of QoS 1 with PUBACK."""
        if message.qos == 1:
            self.send(answer(PUBACK, message.packet_id))

    def ask(self, data: bytes, wanted: int) -> Packet:
        """Send a packet, and return the next one of a kind."""
        self.send(data)
        return self.wait_for(wanted)

    def wait_for(self, wanted: int) -> Packet:
        """Return the next packet of a kind; what comes before it stays for later."""
        at = 0
        while True:
            while at == len(self._packets):
                self._fill()
            if self._packets[at].kind == wanted:
                return self._packets.pop(at)
            at += 1

    def drain(self) -> list[tuple[str, bytes]]:
        """Return every message that the broker sends before it answers a ping: all that had been on
        its way.
        """
        self.send(packet(PINGREQ))
        messages = []
        while (got := self.receive_packet()).kind != PINGRESP:
            if got.kind == PUBLISH:
                messages.append((got.topic, got.payload))
                self.acknowledge(got)
        return messages

    def wait_closed(self) -> None:
        """Wait until the broker closes the connection; AssertionError if it does not."""
        try:
            while True:
                self.receive_packet()
        except Refused:
            return
        except TimeoutError as error:
            raise AssertionError("the broker kept the connection open") from error

    def disconnect(self) -> None:
        """Leave in order."""
        self.send(packet(DISCONNECT))
        self.drop()

    def drop(self) -> None:
        """Close the connection without a word."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send one packet; Refused when the connection is gone."""
        try:
            self._socket.sendall(_frame(data) if self._websockets else data)
        except OSError as error:
            raise Refused(f"closed: {error}") from error

    def _fill(self) -> None:
        self._buffer += self._receive()
        self._packets += take_packets(self._buffer)

    def _receive(self) -> bytes:
        if not self._websockets:
            return self._read_socket(65536)
        first, length = self._read_exactly(2)
        if length == 126:
            length = struct.unpack("!H", self._read_exactly(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self._read_exactly(8))[0]
        data = self._read_exactly(length)
        if first & 0x0F == _WS_CLOSE:
            raise Refused("closed by a WebSocket close frame")
        return data

    def _read_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._read_socket(count - len(data))
        return data

    def _read_socket(self, count: int) -> bytes:
        try:
            data = self._socket.recv(count)
        except TimeoutError:
            raise
        except OSError as error:
            raise Refused(f"closed: {error}") from error
        if not data:
            raise Refused("closed without a word")
        return data

    def _upgrade(self) -> None:
        """Make a WebSocket of the connection (RFC 6455 §4.1), one byte at a time so that no frame
        is read with it.
        """
        self._socket.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: "
            b"Upgrade\r\n"
            b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self._read_socket(1)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise Refused(f"handshake: {answer[:40]!r}")


def delivered(receiver: Peer, sender: Peer, topic: str) -> list[bytes]:
    """Return the payloads that `receiver` gets before a message that `sender` sends now on `topic`,
    which both of them may.

    Messages are delivered in order, so what had been sent before and has not come by then does not
    come at all.
    """
    sentinel = os.urandom(8).hex().encode()
    sender.publish(topic, sentinel)
    payloads = []
    while (payload := receiver.receive()[1]) != sentinel:
        payloads.append(payload)
    return payloads


def _frame(data: bytes) -> bytes:
    """Put data into one binary WebSocket frame, masked with zeros as is a client's right."""
    if len(data) < 126:
        length = bytes([0x80 | len(data)])
    elif len(data) < 1 << 16:
        length = struct.pack("!BH", 0x80 | 126, len(data))
    else:
        length = struct.pack("!BQ", 0x80 | 127, len(data))
    return b"\x82" + length + bytes(4) + data
