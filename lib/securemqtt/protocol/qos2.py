"""QoS 2, exactly once (MQTT 3.1.1, section 4.3.3): what both sides remember while a session lasts.

No I/O. A board loads this with the first such message, so that who does without pays nothing.
"""

from ..platform import const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..messages import Message

# So many of the broker's messages may wait for its PUBREL; brokers have 20 or so on their way.
_INCOMING = const(1000)


class ExactlyOnce:
    """The QoS 2 messages of a session, both ways, by packet id."""

    def __init__(self) -> None:
        self.released: "set[int]" = set()
        """Ids of our messages that the broker has (PUBREC), and whose id it still knows."""
        # The broker's messages until PUBREL; None once the handler has returned.
        self._incoming: "dict[int, Message | None]" = {}

    # What goes out

    def recorded(self, packet_id: int) -> None:
        """Note PUBREC for a message of ours: from now on PUBREL is what is sent again for it."""
        self.released.add(packet_id)

    def completed(self, packet_id: int) -> bool:
        """Note PUBCOMP for a message of ours; return True if PUBREC had come before."""
        if packet_id not in self.released:
            return False
        self.released.remove(packet_id)
        return True

    # What comes in

    def is_new(self, packet_id: int) -> bool:
        """Return True if a message that has come has not been seen in this session."""
        return packet_id not in self._incoming

    def is_handled(self, packet_id: int) -> bool:
        """Return True if the handler of a message that has come again has returned: answer it."""
        return packet_id in self._incoming and self._incoming[packet_id] is None

    def taken(self, message: "Message") -> None:
        """Remember a message that has come: its handler will be called.

        Raise MalformedPacket if the broker sends more and more, and releases none.
        """
        if len(self._incoming) >= _INCOMING:
            from ..errors import MalformedPacket

            what = "the broker sends QoS 2 messages and releases none"
            raise MalformedPacket(what, message.packet_id)
        self._incoming[message.packet_id] = message

    def handled(self, message: "Message") -> bool:
        """Note that the handler of a message has returned; return True if PUBREC is due now.

        A second delivery of it, on a later connection, has not been handed over: so this answers
        that one, too.
        """
        if self._incoming.get(message.packet_id) is not message:
            return False
        self._incoming[message.packet_id] = None
        return True

    def forget(self, packet_id: int) -> None:
        """Note PUBREL for a message that has come."""
        self._incoming.pop(packet_id, None)

    def forget_all(self) -> None:
        """Note that the broker has forgotten the session."""
        self.released.clear()
        self._incoming.clear()
