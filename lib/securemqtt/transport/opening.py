"""A board's way to a session: the broker's name, the socket, CONNECT, and CONNACK.

Loaded for an attempt to connect, and forgotten again; stream_mbedtls.Stream puts TLS on the socket.
"""

import errno
import select
import socket

from ..log import log
from ..platform import const, now_ms
from ..protocol.session import head, with_id

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..settings import Settings
    from .base import BoardLink, SocketHolder

_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)
_CONNACK = const(0x20)
_PUBREL = const(0x62)


def attempt(link: "BoardLink") -> "Iterator[None]":
    """Return a generator that connects, yielding after 10 ms at most.

    When it ends there is a connection, and `link.connect_packet` is what to write on it. Resolving
    the name blocks for as long as the resolver does.
    """
    settings, stream, session = link.settings, link.sock, link.session
    now = now_ms()
    link.deadline_ms = now + int(settings.connect_timeout_s * 1000)
    session.begin(now)
    link.connection_number += 1
    if stream.stage == "connack":
        session.doubtful = True
    stream.stage = "resolve"
    link.connect_packet = _connect_packet(settings)
    return _connecting_in_time(link)


def _connecting_in_time(link: "BoardLink") -> "Iterator[None]":
    for _ in opening(link.sock, link.settings):
        if now_ms() > link.deadline_ms:
            raise OSError(errno.ETIMEDOUT)
        yield


def opening(stream: "SocketHolder", settings: "Settings") -> "Iterator[None]":
    """Return a generator that finds `stream` its socket, yielding after 10 ms at most.

    `Stream.attach` goes on from there. Resolving the name blocks for as long as the resolver does.
    """
    stream.stage = "resolve"
    addresses = socket.getaddrinfo(settings.host, settings.port, 0, socket.SOCK_STREAM)
    stream.stage = "connect"
    failed: "OSError | None" = None
    for family, kind, protocol, _, address in addresses[:4]:
        # Known to the stream at once, which closes it where the attempt is given up.
        stream.raw = raw = socket.socket(family, kind, protocol)
        raw.setblocking(False)
        try:
            yield from _connecting(raw, address)
        except OSError as error:
            failed = error
            raw.close()
            stream.raw = None
            continue
        try:
            raw.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        except OSError as error:
            # A port without the option: packets that share records make up for most of what Nagle's
            # algorithm costs.
            log("debug", "no TCP_NODELAY: " + str(error))
        stream.stage = "handshake"
        return
    raise failed or OSError(errno.ECONNREFUSED)


def _connecting(raw: "Any", address: "Any") -> "Iterator[None]":
    try:
        raw.connect(address)
        return
    except OSError as error:
        if error.errno != errno.EINPROGRESS:
            raise
    poll = select.poll()
    poll.register(raw, select.POLLOUT)
    while True:
        for _, event in poll.ipoll(10):
            if not event & (select.POLLERR | select.POLLHUP):
                return
            raw.connect(address)  # raises what the connection failed with
            raise OSError(errno.ECONNREFUSED)
        yield


def _connect_packet(settings: "Settings") -> bytes:
    """Return CONNECT (MQTT 3.1.1, section 3.1)."""
    fields = [settings.client_id.encode()]
    flags = 2 if settings.clean_session else 0
    if settings.will:
        topic, payload, qos, retain = settings.will
        fields += [topic.encode(), payload]
        flags |= 4 | qos << 3 | (32 if retain else 0)
    if settings.username is not None:
        fields.append(settings.username.encode())
        flags |= 128
        if settings.password is not None:
            fields.append(settings.password.encode())
            flags |= 64
    keep_alive_s = settings.keep_alive_s
    packet = head(0x10, 10 + sum(len(field) + 2 for field in fields))
    packet += b"\0\x04MQTT\x04" + bytes((flags, keep_alive_s >> 8, keep_alive_s & 255))
    for field in fields:
        packet += bytes((len(field) >> 8, len(field) & 255)) + field
    return bytes(packet)


def take_connack(link: "BoardLink", kind: int) -> bool:
    """Take CONNACK, which `link.reader` has found, and write again what was in flight.

    Return True if the broker has kept our session. Raise BrokerError if it refuses us.
    """
    reader = link.reader
    if kind != _CONNACK:
        from ..errors import MalformedPacket

        raise MalformedPacket("the broker sent something before CONNACK", kind)
    flags = reader.data[reader.at]
    return_code = reader.data[reader.at + 1]
    link.sock.stage = "session"  # CONNACK was seen, whatever it says
    if return_code:
        from ..diagnosis.translate import refused

        raise refused(return_code, link.settings)
    session = link.session
    session_present = session.accepted(flags, link.settings.clean_session)
    link.up = True
    released = link.released
    if not session_present:
        released.clear()
    # Only within a kept session is it a second delivery [MQTT-3.3.1-1]; order first in any case
    # [MQTT-4.6.0-1].
    for packet_id in session.unacknowledged():
        if packet_id in released:
            link.sock.write(with_id(_PUBREL, packet_id))
        else:
            link.send(session.unanswered[packet_id], packet_id, 8 if session_present else 0)
    return session_present
