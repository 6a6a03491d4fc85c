"""What the MicroPython backend does with a message that comes in: loaded with the first one, and kept."""

from .._compat import TYPE_CHECKING
from ..failure import failure
from ..messages import Message

if TYPE_CHECKING:
    from ..packets import Reader
    from .umqtt import UmqttLink


def received(link: "UmqttLink", reader: "Reader", kind: int, data: memoryview, at: int) -> None:
    """Hand over the PUBLISH that `reader` has at `at`."""
    end = at + reader.size
    topic_end = at + 2 + (data[at] << 8 | data[at + 1])
    qos = kind >> 1 & 3
    body = topic_end + 2 if qos else topic_end
    if body > end:
        raise failure("MalformedPacket", "a PUBLISH is shorter than its topic", kind)
    try:
        topic = str(data[at + 2 : topic_end], "utf-8")
    except ValueError:
        raise failure("MalformedPacket", "a topic is not UTF-8", kind)
    packet_id = data[topic_end] << 8 | data[topic_end + 1] if qos else 0
    if qos == 2 and not link._qos2().is_new(packet_id):
        return
    payload = b"" if reader.oversized else bytes(data[body:end])
    message = Message(topic, payload, qos, bool(kind & 1), bool(kind & 8), packet_id, link._epoch)
    if reader.oversized:
        link._owner.link_event("oversized", topic, reader.oversized)
        if qos == 2:
            link._qos2().taken(message)
        if qos:
            link.ack(message)
    elif link._owner.link_message(message) and qos == 2:
        link._qos2().taken(message)
