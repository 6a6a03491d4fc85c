"""QoS 2 on MicroPython (MQTT 3.1.1, section 4.3.3): loaded with the first such message, so that who
does without pays nothing.
"""

from .._compat import TYPE_CHECKING, const
from ..failure import failure
from .umqtt_receive import write_head

if TYPE_CHECKING:
    from typing import Any

    from ..messages import Message
    from .umqtt import UmqttLink

# So many of the broker's messages may wait for its PUBREL; brokers have 20 or so on their way.
_INCOMING = const(1000)


class ExactlyOnce:
    """What both sides have to remember of QoS 2 messages while a session lasts."""

    def __init__(self, link: "UmqttLink") -> None:
        self._link = link
        # Packet ids of our messages that the broker has (PUBREC), and for which it has not
        # forgotten the id yet (PUBCOMP).
        self._released: "set[int]" = set()
        # The broker's messages by packet id, until PUBREL; None once the handler has returned.
        self._incoming: "dict[int, Message | None]" = {}

    def answered(self, kind: int, packet_id: int, what: "Any") -> None:
        """Take PUBREC, PUBREL or PUBCOMP; `what` was sent with the id, None if nothing was."""
        ours = what is not None and not isinstance(what, str) and what.qos == 2
        if kind == 0x50:
            if ours:
                self._released.add(packet_id)
            write_head(self._link, 0x62, packet_id)
        elif kind == 0x62:
            self._incoming.pop(packet_id, None)
            write_head(self._link, 0x70, packet_id)
        elif ours and packet_id in self._released:
            self._released.remove(packet_id)
            self._link._session.remove(packet_id)
            self._link._owner.link_acknowledged(what)

    def is_new(self, packet_id: int) -> bool:
        """Return True if an incoming message has not been seen in this session; one that was
        handled is confirmed again.
        """
        if packet_id not in self._incoming:
            return True
        if self._incoming[packet_id] is None:
            write_head(self._link, 0x50, packet_id)
        return False

    def taken(self, message: "Message") -> None:
        """Remember an incoming message: its handler will be called."""
        if len(self._incoming) >= _INCOMING:
            raise failure(
                "MalformedPacket",
                "the broker sends QoS 2 messages and releases none",
                message.packet_id,
            )
        self._incoming[message.packet_id] = message

    def handled(self, message: "Message") -> None:
        """Confirm an incoming message (PUBREC): its handler has returned."""
        if self._incoming.get(message.packet_id) is message:
            self._incoming[message.packet_id] = None
            if self._link.up:
                write_head(self._link, 0x50, message.packet_id)

    def resumed(self, session_present: int) -> "set[int]":
        """Return the ids for which PUBREL is what goes out again; forget all where the broker has
        forgotten the session.
        """
        if not session_present:
            self._released.clear()
            self._incoming.clear()
        return self._released
