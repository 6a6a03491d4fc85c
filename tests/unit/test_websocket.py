"""The WebSocket codec against RFC 6455, byte by byte."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import struct

import pytest

from securemqtt.config import load
from securemqtt.connection import Connection
from securemqtt.errors import MalformedPacket, ProtocolRefused
from securemqtt.settings import Settings
from securemqtt.transport.paho import PahoLink
from securemqtt.transport.websocket import WebSocket

SETTINGS = Settings({"host": "mqtt.local", "port": 443, "ws_path": "/mqtt"})


def open_socket() -> WebSocket:
    websocket = WebSocket(SETTINGS)
    websocket.request()
    websocket._buffer = bytearray()
    return websocket


def answer_to(request: bytes) -> bytes:
    """Answer as a server does (RFC 6455, section 4.2.2)."""
    key = next(
        line.split(b": ")[1]
        for line in request.split(b"\r\n")
        if line.startswith(b"Sec-WebSocket-Key")
    )
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nSEC-WEBSOCKET-ACCEPT:  "
        + accept
        + b"\r\n\r\n"
    )


def from_server(payload: bytes, opcode: int = 2, *, final: bool = True) -> bytes:
    head = bytes([final << 7 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + struct.pack("!H", len(payload)) + payload
    return head + b"\x7f" + struct.pack("!Q", len(payload)) + payload


def unmasked(frame: bytes) -> tuple[int, bytes]:
    """Read a client's frame as a server does: opcode and payload; it must be masked."""
    assert frame[1] & 0x80
    size, at = frame[1] & 0x7F, 2
    if size > 125:
        at = 4 if size == 126 else 10
        size = int.from_bytes(frame[2:at], "big")
    key = frame[at : at + 4]
    body = frame[at + 4 :]
    assert len(body) == size
    return frame[0] & 15, bytes(byte ^ key[n % 4] for n, byte in enumerate(body))


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_the_upgrade_is_accepted_in_any_pieces(piece: int) -> None:
    websocket = WebSocket(SETTINGS)
    request = websocket.request()
    assert request.startswith(b"GET /mqtt HTTP/1.1\r\nHost: mqtt.local:443\r\n")
    assert b"Sec-WebSocket-Protocol: mqtt\r\n" in request
    answer = answer_to(request) + from_server(b"first")
    end = answer.index(b"\r\n\r\n") + 4
    pieces = [answer[n : n + piece] for n in range(0, len(answer), piece)]
    took = 0
    while not websocket.answered(pieces[took]):
        took += 1
    assert took == (end - 1) // piece
    for rest in pieces[took + 1 :]:
        websocket.feed(rest)
    assert websocket.payload == b"first"


def test_a_server_without_mqtt_is_refused() -> None:
    for answer in (
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: bm8=\r\n\r\n",
        b"\r\n\r\n",
        b"x" * 20_000,
    ):
        websocket = WebSocket(SETTINGS)
        websocket.request()
        with pytest.raises(ProtocolRefused):
            websocket.answered(answer)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_001])
def test_what_goes_out_is_masked_and_whole(size: int) -> None:
    payload = os.urandom(size)
    frame = open_socket().frame(payload)
    assert unmasked(frame) == (2, payload)
    assert frame[0] == 0x82


def test_what_comes_in_is_the_same_in_any_pieces() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        payloads = [
            chance.randbytes(chance.choice([0, 3, 125, 126, 300, 70_000])) for _ in range(5)
        ]
        data = b"".join(
            from_server(payload, 2 if n == 0 else 0, final=n == 4)
            + (from_server(b"alive?", 9) if n % 2 else b"")
            for n, payload in enumerate(payloads)
        )
        websocket = open_socket()
        received = b""
        at = 0
        while at < len(data):
            size = chance.randint(1, 9000)
            websocket.feed(data[at : at + size])
            at += size
            buffer = memoryview(bytearray(chance.randint(1, 9000)))
            received += bytes(buffer[: websocket.readinto(buffer)])
        received += bytes(websocket.payload)
        assert received == b"".join(payloads)
        reply = bytes(websocket.reply)
        assert [unmasked(reply[n : n + 12]) for n in range(0, len(reply), 12)] == [
            (10, b"alive?")
        ] * 2


def test_a_large_frame_is_passed_on_as_it_comes() -> None:
    websocket = open_socket()
    websocket.feed(b"\x82\x7f" + struct.pack("!Q", 1 << 62) + b"begin")
    assert websocket.payload == b"begin"
    assert not websocket._buffer


def test_a_close_ends_the_connection() -> None:
    with pytest.raises(ConnectionResetError):
        open_socket().feed(from_server(b"\x03\xe8", 8))


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x01a",  # text
        b"\x83\x00",  # an opcode that is not there
        b"\xc2\x01a",  # a reserved bit
        b"\x82\x81abcdx",  # masked, by a server
        b"\x89\x7e\x01\x00",  # a long ping
        b"\x09\x00",  # a ping in parts
    ],
)
def test_what_no_server_may_send(frame: bytes) -> None:
    with pytest.raises(MalformedPacket):
        open_socket().feed(frame)


def test_leaving_never_raises_whatever_the_server_says_to_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = {"host": "mqtt.local", "system_trust": True, "username": "d", "password": ""}
    settings = load(None, {"client_id": "d", **broker})
    link = Connection(settings, PahoLink).link
    websocket = open_socket()

    def said(buffer: memoryview) -> int:
        websocket.feed(b"\x83\x00")  # an opcode that is not there
        return 0

    monkeypatch.setattr(link._stream, "readinto", said)
    monkeypatch.setattr(link._stream, "flush", lambda: True)
    link.up = True
    link.leave()
    assert not link.up
    while link.leaving:
        link.serve(1000)
