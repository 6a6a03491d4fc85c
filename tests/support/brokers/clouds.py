"""Stand-ins for brokers in the cloud, over real TLS: they enforce the limits that the providers
document, and do nothing else that a cloud does.

Their numbers are written down here once more, by hand, so that the library's table is held to
something that is not itself.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.brokers.servers import tls_server
from support.identities.credentials import Credentials
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
    packet,
    take_packets,
)

_NOT_AUTHORISED = 5


@dataclass(frozen=True)
class Cloud:
    """What a provider says of its broker; None where it says nothing."""

    with_certificates: bool = False
    with_users: bool = True
    highest_qos: int = 2
    retained: bool = True
    keep_alive_s: range = range(1 << 16)
    id_bytes: int | None = None
    topic_bytes: int | None = None
    topic_slashes: int | None = None
    filter_slashes: int | None = None
    packet_bytes: int | None = None
    alpn: str | None = None


CLOUDS = {
    "aws": Cloud(
        with_certificates=True,
        with_users=False,
        highest_qos=1,
        keep_alive_s=range(30, 1201),
        id_bytes=128,
        topic_bytes=256,
        topic_slashes=7,
        filter_slashes=7,
        packet_bytes=128 * 1024,
    ),
    "azure": Cloud(
        with_certificates=True,
        highest_qos=1,
        retained=False,
        keep_alive_s=range(1, 1161),
        topic_slashes=14,
        filter_slashes=14,
        packet_bytes=512 * 1024,
    ),
    "hivemq-cloud": Cloud(),
    "emqx": Cloud(id_bytes=1024, filter_slashes=9, packet_bytes=1024 * 1024),
}


class Broken(Exception):
    """A client has done what this cloud does not take: the connection ends."""


@dataclass
class StandIn:
    """A stand-in while it runs: what came, and what was against the rules."""

    cloud: Cloud
    port: int = 0
    names: list[str | None] = field(default_factory=list)  # SNI, one per handshake
    published: list[tuple[str, int, bool]] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        """Be the broker on one connection, until it ends or a rule is broken."""
        assert isinstance(connection, ssl.SSLSocket)
        buffer = bytearray()
        try:
            if self.cloud.alpn != connection.selected_alpn_protocol():
                raise Broken(f"ALPN {connection.selected_alpn_protocol()}")
            while part := connection.recv(65536):
                buffer += part
                for one in take_packets(buffer):
                    if one.kind == DISCONNECT:
                        return
                    connection.sendall(self._answered(one))
        except Broken as broken:
            self.violations.append(str(broken))

    def _answered(self, one: Packet) -> bytes:
        if one.kind == CONNECT:
            return self._connected(one.body)
        if one.kind == PUBLISH:
            return self._received(one)
        if one.kind == SUBSCRIBE:
            size = one.body[2] << 8 | one.body[3]
            topic_filter, qos = one.body[4 : 4 + size].decode(), one.body[4 + size]
            self._check_topic(topic_filter, self.cloud.filter_slashes)
            self.subscribed.append(topic_filter)
            return answer(SUBACK, one.packet_id, bytes([min(qos, self.cloud.highest_qos)]))
        answers = {PINGREQ: packet(PINGRESP), PUBREL: answer(PUBCOMP, one.packet_id)}
        return answers.get(one.kind, b"")

    def _connected(self, body: bytes) -> bytes:
        cloud = self.cloud
        flags, keep_alive_s = body[7], body[8] << 8 | body[9]
        fields = []
        rest = body[10:]
        while rest:
            size = rest[0] << 8 | rest[1]
            fields.append(rest[2 : 2 + size])
            rest = rest[2 + size :]
        if keep_alive_s not in cloud.keep_alive_s:
            raise Broken(f"keep-alive {keep_alive_s}")
        if cloud.id_bytes is not None and len(fields[0]) > cloud.id_bytes:
            raise Broken(f"client id of {len(fields[0])} bytes")
        if flags & 4:
            self._check_message(fields[1].decode(), flags >> 3 & 3, bool(flags & 32))
        if cloud.with_users and not flags & 128:
            return packet(CONNACK, bytes((0, _NOT_AUTHORISED)))
        return packet(CONNACK, b"\0\0")

    def _received(self, one: Packet) -> bytes:
        cloud = self.cloud
        if cloud.packet_bytes is not None and len(one.body) > cloud.packet_bytes:
            raise Broken(f"a packet of {len(one.body)} bytes")
        retain = bool(one.first & 1)
        self._check_message(one.topic, one.qos, retain)
        self.published.append((one.topic, one.qos, retain))
        if not one.qos:
            return b""
        return answer(PUBACK if one.qos == 1 else PUBREC, one.packet_id)

    def _check_message(self, topic: str, qos: int, retain: bool) -> None:
        if qos > self.cloud.highest_qos:
            raise Broken(f"QoS {qos}")
        if retain and not self.cloud.retained:
            raise Broken("retain")
        self._check_topic(topic, self.cloud.topic_slashes)

    def _check_topic(self, topic: str, slashes: int | None) -> None:
        longest = self.cloud.topic_bytes
        if slashes is not None and topic.count("/") > slashes:
            raise Broken(f"{topic.count('/')} slashes")
        if longest is not None and len(topic.encode()) > longest:
            raise Broken(f"a topic of {len(topic.encode())} bytes")


@contextmanager
def cloud_stand_in(cloud: Cloud, own: Credentials, ca: Path) -> Iterator[StandIn]:
    """Run a stand-in for a cloud's broker on a free port of loopback."""
    stand_in = StandIn(cloud)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if cloud.with_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    if cloud.alpn:
        context.set_alpn_protocols([cloud.alpn])

    def named(_: object, name: str | None, __: object) -> int | None:
        stand_in.names.append(name)
        # It serves many customers, and knows by the name whose client this is.
        return None if name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = named  # type: ignore[assignment]
    with tls_server(context, stand_in.serve) as stand_in.port:
        yield stand_in
