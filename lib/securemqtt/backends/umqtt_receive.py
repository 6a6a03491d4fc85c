"""What the MicroPython backend does with packets that do not come to a device that only sends:
loaded with the first one, and kept.
"""

from .._compat import TYPE_CHECKING, rarely
from ..failure import failure
from ..packets_more import message_of

if TYPE_CHECKING:
    from typing import Any

    from ..messages import Message
    from ..packets import Reader
    from .umqtt import UmqttLink


def received(link: "UmqttLink", reader: "Reader", kind: int) -> None:
    """Handle the packet that `reader` has given; `kind` is its first byte."""
    if kind & 0xF0 == 0x30:
        _message(link, reader, kind)
        return
    if kind == 0x20:
        raise failure("MalformedPacket", "the broker sent a second CONNACK", kind)
    data = reader.data
    at = reader.at
    packet_id = data[at] << 8 | data[at + 1]
    what = link._session.unanswered.get(packet_id)
    if kind < 0x90:
        _exactly_once(link).answered(kind, packet_id, what)
    elif isinstance(what, str):  # else the broker is in error: no harm in leaving it
        link._session.remove(packet_id)
        if kind == 0x90:
            link._owner.link_event("subscribed", what, data[at + 2] < 3)
        else:
            link._owner.link_event("unsubscribed", what)


def _message(link: "UmqttLink", reader: "Reader", kind: int) -> None:
    message = message_of(reader, kind, link._epoch)
    qos = message.qos
    if qos == 2 and not _exactly_once(link).is_new(message.packet_id):
        return
    if reader.oversized:
        link._owner.link_event("oversized", message.topic, reader.oversized)
        if qos == 2:
            _exactly_once(link).taken(message)
        if qos:
            handled(link, message)
    elif link._owner.link_message(message) and qos == 2:
        _exactly_once(link).taken(message)


def handled(link: "UmqttLink", message: "Message") -> None:
    """See `ack` in contract.py."""
    if message.qos == 2:
        _exactly_once(link).handled(message)
    elif link.up and message.epoch == link._epoch:
        write_head(link, 0x40, message.packet_id)


def write_head(link: "UmqttLink", kind: int, packet_id: int) -> None:
    """Write a packet that is an id and nothing else."""
    link.sock.write(bytes((kind, 2, packet_id >> 8, packet_id & 255)))


def _exactly_once(link: "UmqttLink") -> "Any":
    if link._exactly_once is None:
        link._exactly_once = rarely("backends.umqtt_qos2").ExactlyOnce(link)
    return link._exactly_once
