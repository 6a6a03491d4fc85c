"""What the MicroPython backend writes once per connection: CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT. See `_compat.rarely`."""

from .._compat import TYPE_CHECKING, const

if TYPE_CHECKING:
    from .umqtt import UmqttLink

# How long leaving may take where the peer does not read.
_CLOSE_MS = const(5000)


def write_connect(link: "UmqttLink") -> None:
    """Write CONNECT (MQTT 3.1.1, section 3.1)."""
    settings = link._settings
    fields = [settings["client_id"].encode()]
    flags = 2 if settings["clean_session"] else 0
    if settings["will"]:
        topic, payload, qos, retain = settings["will"]
        fields += [topic.encode(), payload]
        flags |= 4 | qos << 3 | (32 if retain else 0)
    if settings["username"] is not None:
        fields.append(settings["username"].encode())
        flags |= 128
        if settings["password"] is not None:
            fields.append(settings["password"].encode())
            flags |= 64
    keep_alive_s = settings["keep_alive_s"]
    link._write_length(0x10, 10 + sum(len(field) + 2 for field in fields))
    link._stream.write(b"\0\x04MQTT\x04" + bytes((flags, keep_alive_s >> 8, keep_alive_s & 255)))
    for field in fields:
        link._encoder._send_str(field)


def write_request(link: "UmqttLink", topic_filter: str, qos: int) -> None:
    """Write SUBSCRIBE, or UNSUBSCRIBE where `qos` is -1 (sections 3.8 and 3.10)."""
    name = topic_filter.encode()
    packet_id = link._window.add(topic_filter, False)
    if qos < 0:
        link._write_head(0xA2, 4 + len(name), packet_id)
        link._encoder._send_str(name)
    else:
        link._write_head(0x82, 5 + len(name), packet_id)
        link._encoder._send_str(name)
        link._stream.write(bytes((qos,)))


def write_disconnect(link: "UmqttLink") -> None:
    """Write DISCONNECT (section 3.14), and all before it; what the peer does not take within 5 s is given up."""
    try:
        link._stream.write(b"\xe0\0")
        link._stream.drain(_CLOSE_MS)
    except OSError:
        link.up = False  # it is gone already: the broker sends the will then
