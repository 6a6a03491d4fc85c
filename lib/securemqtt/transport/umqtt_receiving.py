"""What the MicroPython backend does for a device that not only sends: subscriptions, messages that
come in, and QoS 2 both ways.

Loaded with the first of that, and then kept: a board that only sends does without.
"""

from ..platform import const
from ..protocol.incoming import message_of
from ..protocol.session import head, with_id

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..messages import Message
    from ..protocol.qos2 import ExactlyOnce
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
    if message.qos == 2:
        if _exactly_once(link).handled(message) and link.up:
            _answer(link, _PUBREC, message.packet_id)
    elif link.up and message.connection_number == link.connection_number:
        _answer(link, _PUBACK, message.packet_id)


def take(link: "BoardLink", kind: int) -> None:
    """Take the packet that `link.reader` has found; `kind` is its first byte."""
    reader = link.reader
    if kind & 0xF0 == 0x30:
        _take_publish(link, kind)
        return
    if kind == _CONNACK:
        from ..errors import MalformedPacket

        raise MalformedPacket("the broker sent a second CONNACK", kind)
    packet_id = reader.data[reader.at] << 8 | reader.data[reader.at + 1]
    what = link.session.unanswered.get(packet_id)
    if kind < _SUBACK:
        _take_qos2(link, kind, packet_id)
    elif isinstance(what, str):  # else the broker is in error: no harm in leaving it
        link.session.remove(packet_id)
        if kind == _SUBACK:
            link.owner.make_inbox().subscribed(what, reader.data[reader.at + 2] < 3)
        else:
            link.owner.make_inbox().unsubscribed(what)


def _take_publish(link: "BoardLink", kind: int) -> None:
    reader = link.reader
    message = message_of(reader, kind, link.connection_number)
    if message.qos == 2 and not _exactly_once(link).is_new(message.packet_id):
        if _exactly_once(link).is_handled(message.packet_id):
            _answer(link, _PUBREC, message.packet_id)
        return
    if reader.oversized:
        link.owner.make_inbox().oversized(message.topic, reader.oversized)
    elif not link.owner.make_inbox().received(message):
        return
    if message.qos == 2:
        _exactly_once(link).taken(message)
    if reader.oversized and message.qos:
        acknowledge(link, message)


def _take_qos2(link: "BoardLink", kind: int, packet_id: int) -> None:
    what = link.session.unanswered.get(packet_id)
    ours = what if what is not None and not isinstance(what, str) and what.qos == 2 else None
    if kind == _PUBREC:
        if ours is not None:
            _exactly_once(link).recorded(packet_id)
        _answer(link, _PUBREL, packet_id)
    elif kind == _PUBREL:
        _exactly_once(link).forget(packet_id)
        _answer(link, _PUBCOMP, packet_id)
    elif ours is not None and _exactly_once(link).completed(packet_id):
        link.session.remove(packet_id)
        link.owner.acknowledged(ours)


def _answer(link: "BoardLink", kind: int, packet_id: int) -> None:
    link.sock.write(with_id(kind, packet_id))


def _exactly_once(link: "BoardLink") -> "ExactlyOnce":
    if link.exactly_once is None:
        from ..protocol.qos2 import ExactlyOnce

        link.exactly_once = ExactlyOnce()
    return link.exactly_once
