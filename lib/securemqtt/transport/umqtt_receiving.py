"""What the MicroPython backend does for a device that not only sends: subscriptions, messages that
come in, and QoS 2 both ways (MQTT 3.1.1, section 4.3.3).

Loaded with the first of that, and then kept: a board that only sends does without.
"""

from ..platform import const
from ..protocol.incoming import message_of
from ..protocol.session import head, with_id

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from typing import Any

    from ..messages import Message
    from .base import BoardLink

_CONNACK = const(0x20)
_PUBACK = const(0x40)
_PUBREC = const(0x50)
_PUBREL = const(0x62)
_PUBCOMP = const(0x70)
_SUBACK = const(0x90)


def request(link: "BoardLink", topic_filter: str, qos: int) -> None:
    """Send SUBSCRIBE, or UNSUBSCRIBE where `qos` is -1: see base.py.

    umqtt.simple 1.3.4 breaks above 122 bytes, and has no UNSUBSCRIBE.
    """
    name = topic_filter.encode()
    packet_id = link.session.add(topic_filter, False)
    tail = b"" if qos < 0 else bytes((qos,))
    packet = head(0xA2 if qos < 0 else 0x82, 4 + len(name) + len(tail))
    packet += bytes((packet_id >> 8, packet_id & 255, len(name) >> 8, len(name) & 255))
    link.sock.write(packet + name + tail)


def acknowledge(link: "BoardLink", message: "Message") -> None:
    """Acknowledge an incoming message: see base.py."""
    link.sock.write(with_id(_PUBREC if message.qos == 2 else _PUBACK, message.packet_id))


def take(link: "BoardLink", kind: int) -> None:
    """Take the packet that `link.reader` has found; `kind` is its first byte."""
    reader = link.reader
    if kind & 0xF0 == 0x30:
        message = message_of(reader, kind, link.connection_number)
        link.owner.make_inbox().received(message, reader.oversized)
        return
    if kind == _CONNACK:
        from ..errors import MalformedPacket

        raise MalformedPacket("the broker sent a second CONNACK", kind)
    packet_id = reader.data[reader.at] << 8 | reader.data[reader.at + 1]
    what = link.session.find(packet_id)
    if kind < _SUBACK:
        _take_qos2(link, kind, packet_id, what)
    elif isinstance(what, str):
        link.session.remove(packet_id)
        if kind == _SUBACK:
            link.owner.make_inbox().subscribed(what, reader.data[reader.at + 2] < 3)
        else:
            link.owner.make_inbox().unsubscribed(what)


def _take_qos2(link: "BoardLink", kind: int, packet_id: int, what: "Any") -> None:
    ours = what is not None and not isinstance(what, str) and what.qos == 2
    if kind == _PUBREC:
        if ours:
            link.released.add(packet_id)
        # For one that is not ours any more, too: the broker waits for it.
        link.sock.write(with_id(_PUBREL, packet_id))
    elif kind == _PUBREL:
        link.owner.make_inbox().released(packet_id)
        link.sock.write(with_id(_PUBCOMP, packet_id))
    elif ours and packet_id in link.released:
        link.released.discard(packet_id)
        link.session.remove(packet_id)
        link.owner.acknowledged(what)
