"""The QoS 1 and 2 messages that have come in a session: what is to be acknowledged next, and what
was handled already, so that nothing is run twice.

No I/O, and no clock is read here. A board loads this with the first subscription or message.
"""

from ..platform import REMEMBERED, const

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from ..messages import Message

# So many QoS 2 messages may wait for the broker's PUBREL; brokers have 20 or so on their way.
_UNRELEASED = const(1000)
# Of a handled message's PUBACK: not written; or written on a connection that was lost, so that no
# answer on a later one says that it arrived.
_NEVER = const(-1)
_LOST = const(-2)


class _Handled:
    """A QoS 1 message whose handler has returned, and whose PUBACK may not have arrived."""

    __slots__ = ("connection_number", "digest", "mark", "packet_id")

    def __init__(self, message: "Message") -> None:
        self.packet_id = message.packet_id
        self.connection_number = message.connection_number
        self.digest = _digest(message)
        self.mark = _NEVER  # which of our acknowledgements was its PUBACK; see Session.answers


class Received:
    """What must be known of a session's incoming QoS 1 and 2 messages.

    Acknowledgements go out in the order in which the messages came ([MQTT-4.6.0-2], [-3]), whatever
    the order in which they were handled. A message that comes again, while it still waits for its
    handler or runs, joins its first copy. One whose handler has returned is acknowledged and not
    run again, if it comes on a later connection with DUP, the same packet id and the same content:
    for QoS 1 this departs from [MQTT-4.3.2-2] where our PUBACK had been written, so `run_again`
    turns it off for those.
    """

    def __init__(self, run_again: bool = False) -> None:
        self._run_again = run_again
        # On this connection, and not acknowledged yet; an int: see `drop`.
        self._arrived: "list[Message | int]" = []
        self._open: "dict[int, Message]" = {}  # those whose handler has not returned
        self._handled: "list[_Handled]" = []  # of QoS 1, oldest first
        self._unreleased: "set[int]" = set()  # ids of QoS 2 that were handled, until PUBREL

    def begin(self, session_present: bool, in_doubt: bool = False) -> None:
        """Note that a connection begins: what is not acknowledged comes again, or is forgotten.

        `in_doubt`: the session may be the old one or not. What comes again with QoS 1 is known by
        its content and DUP, which a new session does not have; QoS 2 by its id alone, so that a new
        message might be taken for it.
        """
        self._arrived = []
        for entry in self._handled:
            if entry.mark != _NEVER:
                entry.mark = _LOST
        if not session_present:
            kept = [message for message in self._open.values() if in_doubt and message.qos == 1]
            self._open = {message.packet_id: message for message in kept}
            self._handled = self._handled if in_doubt else []
            self._unreleased = set()

    def is_new(self, message: "Message") -> bool:
        """Note that a message has come; return True if it is to be handled, and False if it was,
        or if it joined an earlier copy that still is to be.

        What is new, and is kept, is to be told with `keep`.
        """
        packet_id = message.packet_id
        if packet_id in self._unreleased if message.qos == 2 else self._was_handled(message):
            message.done = True
            self._arrived.append(message)
            return False
        earlier = self._open.get(packet_id)
        if earlier is None or earlier.qos != message.qos:
            return True
        again = earlier.connection_number != message.connection_number
        # Of QoS 2 the id alone says so, until PUBREL ([MQTT-4.3.3-2]).
        if message.qos == 1 and not (again and message.dup and _same(earlier, message)):
            return True
        if again:
            earlier.connection_number = message.connection_number
            self._arrived.append(earlier)
        return False

    def keep(self, message: "Message") -> None:
        """Note that a new message is kept: it will be handled, and acknowledged after that.

        Raise MalformedPacket if the broker sends QoS 2 messages and releases none.
        """
        self._check_unreleased(message)
        # Last what outlives this connection, which ends where memory runs out: here and below.
        self._arrived.append(message)
        self._open[message.packet_id] = message

    def drop(self, message: "Message") -> None:
        """Note that a new message is not kept: it is acknowledged once those before it are.

        There may be many, so of each only its packet id and QoS are kept. Raise MalformedPacket as
        `keep` does.
        """
        self._check_unreleased(message)
        self._arrived.append(message.packet_id << 2 | message.qos)
        if message.qos == 2:
            self._unreleased.add(message.packet_id)

    def done(self, message: "Message", handled: bool) -> None:
        """Note that a message can be acknowledged; `handled`: because its handler has returned."""
        packet_id = message.packet_id
        if self._open.get(packet_id) is message:  # else its session is gone
            if message.qos == 2:
                self._unreleased.add(packet_id)
            elif handled:
                self._handled.append(_Handled(message))
                if len(self._handled) > REMEMBERED:
                    self._handled.pop(0)
            del self._open[packet_id]
        message.done = True

    def next(self) -> "Message | None":
        """Return the message that is to be acknowledged next, None if there is none yet."""
        if not self._arrived:
            return None
        first = self._arrived[0]
        if isinstance(first, int):
            from ..messages import Message

            return Message("", qos=first & 3, packet_id=first >> 2)
        return first if first.done else None

    def acknowledged(self, mark: int) -> None:
        """Note that the acknowledgement for what `next` gave was written, the `mark`-th of ours."""
        message = self._arrived.pop(0)
        if not isinstance(message, int) and message.qos == 1:
            for entry in self._handled:
                if entry.packet_id == message.packet_id:
                    entry.mark = mark
                    entry.connection_number = message.connection_number

    def confirmed(self, mark: int) -> None:
        """Note that our acknowledgements up to the `mark`-th have arrived: what they were for will
        not come again.
        """
        self._handled = [entry for entry in self._handled if not 0 <= entry.mark <= mark]

    def released(self, packet_id: int) -> None:
        """Note PUBREL for a QoS 2 message: its id may come with another one from now on."""
        self._unreleased.discard(packet_id)

    def _check_unreleased(self, message: "Message") -> None:
        if len(self._unreleased) >= _UNRELEASED:
            from ..errors import MalformedPacket

            what = "the broker sends QoS 2 messages and releases none"
            raise MalformedPacket(what, message.packet_id)

    def _was_handled(self, message: "Message") -> bool:
        for index, entry in enumerate(self._handled):
            if entry.packet_id == message.packet_id:
                if (
                    message.dup
                    and entry.connection_number != message.connection_number
                    and (entry.mark == _NEVER or not self._run_again)
                    and entry.digest == _digest(message)
                ):
                    return True
                # The id is in use for another one, so the PUBACK for this one had arrived.
                self._handled.pop(index)
                return False
        return False


def _same(one: "Message", other: "Message") -> bool:
    return one.topic == other.topic and one.payload == other.payload


def _digest(message: "Message") -> bytes:
    from hashlib import sha256

    content = sha256(message.topic.encode())
    content.update(b"\0")
    content.update(message.payload)
    return content.digest()[:8]
