"""What a client's packet has to be like (MQTT 3.1.1), so that it ends the connection if it is not
[MQTT-4.8.0-1]. amqtt takes most of it as it comes.
"""

from __future__ import annotations

from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import (
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
)

from securemqtt.protocol.topics import problem

# What a client may send after its one CONNECT, and the flags that it has then [MQTT-2.2.2-2].
_FLAGS = {
    PUBACK: 0,
    PUBREC: 0,
    PUBREL: 2,
    PUBCOMP: 0,
    SUBSCRIBE: 2,
    UNSUBSCRIBE: 2,
    PINGREQ: 0,
    DISCONNECT: 0,
}
_MOST_LENGTH_BYTES = 4
MOST_FILTERS = 1000  # in one packet, which has room for a quarter of a million


def whole_packet(received: bytes | bytearray) -> tuple[int, int] | None:
    """Return where the body of the first packet begins and ends; None if that cannot be said yet.

    Raise ValueError when its length is none (section 2.2.3).
    """
    length = 0
    for at, byte in enumerate(received[1 : 1 + _MOST_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            return 2 + at, 2 + at + length
    if len(received) > _MOST_LENGTH_BYTES:
        raise ValueError("its length has more than four bytes")
    return None


def check_packet(first: int, body: bytes) -> None:
    """Look at a packet that comes after CONNECT; raise ValueError that says what is wrong."""
    kind, flags = divmod(first, 16)
    rest = _Rest(body)
    if kind == PUBLISH:
        _check_publish(flags, rest)
        return
    if kind not in _FLAGS:
        raise ValueError("it is of a kind that no client sends here")  # [MQTT-3.1.0-2], too
    if flags != _FLAGS[kind]:
        raise ValueError("its flags are not the ones that are reserved")
    if kind not in (PINGREQ, DISCONNECT):
        rest.take_packet_id()
    if kind in (SUBSCRIBE, UNSUBSCRIBE):
        _check_filters(kind, rest)
    if rest:
        raise ValueError("it goes on after its end")


def check_connect(connect: ConnectPacket) -> None:
    """Look at what amqtt has taken a CONNECT to be; raise ValueError that says what is wrong."""
    if connect.reserved_flag:
        raise ValueError("its reserved flag is set")  # [MQTT-3.1.2-3]
    if connect.password_flag and not connect.username_flag:
        raise ValueError("it has a password and no user name")  # [MQTT-3.1.2-22]
    if "\0" in (connect.client_id or "") + (connect.username or ""):
        raise ValueError("a text of it holds U+0000")  # [MQTT-1.5.3-2]
    if connect.will_qos > 2:
        raise ValueError("its will has QoS 3")  # [MQTT-3.1.2-14]
    if connect.will_flag:
        _check_topic(connect.will_topic or "", False)
    elif connect.will_qos or connect.will_retain_flag:
        raise ValueError("it has flags of a will and no will")  # [MQTT-3.1.2-11]


def _check_publish(flags: int, rest: _Rest) -> None:
    qos = flags >> 1 & 3
    if qos == 3:
        raise ValueError("its QoS is 3")  # [MQTT-3.3.1-4]
    if not qos and flags & 8:
        raise ValueError("it has QoS 0 and DUP")  # [MQTT-3.3.1-2]
    _check_topic(rest.take_text(), False)
    if qos:
        rest.take_packet_id()


def _check_filters(kind: int, rest: _Rest) -> None:
    """One at least: [MQTT-3.8.3-3], [MQTT-3.10.3-2]. Each takes time, which others wait for."""
    more, count = True, 0
    while more:
        count += 1
        if count > MOST_FILTERS:
            raise ValueError(f"it has more than {MOST_FILTERS} filters")
        _check_topic(rest.take_text(), True)
        if kind == SUBSCRIBE and rest.take(1)[0] > 2:
            raise ValueError("it asks for a QoS above 2")  # [MQTT-3.8.3-4]
        more = bool(rest)


def _check_topic(topic: str, is_filter: bool) -> None:
    wrong = problem(topic, is_filter)
    if wrong:
        raise ValueError(f"its topic is none: {wrong}")


class _Rest:
    """What of a packet has not been looked at. Each method raises ValueError if it is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError("it is shorter than it says")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def take_text(self) -> str:
        """UnicodeDecodeError, for what is no UTF-8 [MQTT-1.5.3-1], is a ValueError."""
        return self.take(int.from_bytes(self.take(2), "big")).decode()

    def take_packet_id(self) -> None:
        """[MQTT-2.3.1-1]."""
        if not any(self.take(2)):
            raise ValueError("its packet id is 0")
