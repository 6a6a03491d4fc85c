"""The MicroPython backend: umqtt.simple writes the packets, this module decides when and waits for
the answers.

umqtt's class is right about the bytes of PUBLISH and PINGREQ, so it writes them, into a `Stream`
(stream_mbedtls.py) that makes one TLS record of them. What it does around that is replaced: it
blocks for the one answer, lets packet ids run over, hides PINGRESP, knows no deadline, no session
and no subscription made again (docs/ARCHITECTURE.md, "The MicroPython backend").
"""

import errno
import gc

from umqtt.simple import MQTTClient

from ..platform import const, now_ms, random_between, temporary
from ..protocol.session import Reader, Session
from .stream_mbedtls import RECORD_BYTES, Stream

TYPE_CHECKING = const(False)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..diagnosis.finding import Finding, Stage
    from ..errors import SecureMQTTError
    from ..messages import Delivery, Message
    from ..settings import Settings
    from .base import Owner

_PUBACK = const(0x40)
_PINGRESP = const(0xD0)
_PINGREQ = b"\xc0\0"
_DISCONNECT = b"\xe0\0"
# How much is read in one turn: then the program has its turn, however much more there is.
_TURN_BYTES = const(4096)
# A packet that has begun must be whole within this time: a peer that trickles bytes is no better
# than a silent one.
_PACKET_MS = const(30000)
# How long leaving may take where the peer does not read.
_CLOSE_MS = const(5000)


class _Written(Exception):
    """Leaves umqtt's code where a packet is written and it would wait for the answer."""


class UmqttLink(MQTTClient):  # type: ignore[misc]
    """See base.py.

    As umqtt's client it writes packets: `sock` is the stream that collects them, `pid` the packet
    id before the next.
    """

    max_publish_bytes = 2097155  # umqtt.publish writes three bytes of length at most

    def __init__(self, settings: "Settings", owner: "Owner") -> None:
        # umqtt's own __init__ is left out: what it notes is for its ways to connect and to receive,
        # which are replaced.
        self.settings = settings
        self.owner = owner
        self.up = False
        with temporary():
            from ..tls.mbedtls import make_context

            self.sock = Stream(make_context(settings), self._alive)
        self.pid = 0
        self.reader = Reader(settings.max_packet_bytes)
        # Ids start anywhere, so that after a restart they are not those that a kept session may
        # still know.
        self.session = Session(
            settings.window, random_between(1, 65535), settings.keep_alive_s * 1000
        )
        self._attempt: "Iterator[None] | None" = None
        self.leaving = False
        self.connect_packet = b""  # what is written first, while an attempt is under way
        # For the attempt, then for a packet that has begun; 0 if there is none.
        self.deadline_ms = 0
        self.connection_number = 0
        # Ids of QoS 2 messages that the broker has (PUBREC): PUBREL is what is sent again for them.
        self.released: "set[int]" = set()
        self.heard = False

    def wake(self) -> None:
        """Do nothing: there is one thread."""

    def room(self) -> int:
        return self.session.room()

    # Opening

    def open(self) -> None:
        self.close()
        with temporary():
            from . import opening

            self._attempt = opening.attempt(self)

    # Carrying

    def serve(self, wait_ms: int) -> None:
        if self.leaving:
            self._leave_further(wait_ms)
            return
        try:
            if self._attempt is not None:
                for _ in self._attempt:
                    return
                self._attempt = None
                # The handshake wants 20 kB in two pieces; what was loaded for the way to here is
                # gone.
                gc.collect()
                self.sock.attach(self.settings.host)
            self._serve(wait_ms)
        except Exception as error:
            stage = self.sock.stage
            self.close()
            ours = self._translated(error, stage)
            if ours is None:  # it is one of ours already, or a mistake in the program
                raise
            raise ours

    def _serve(self, wait_ms: int) -> None:
        stream = self.sock
        if stream.end:
            self.session.sent_ms = now_ms()
        flushed = stream.flush()
        if stream.stage == "handshake":
            # What fits into a record at a time: the first one that goes through ends the handshake,
            # and nothing is waited for here.
            while flushed and self.connect_packet:
                stream.write(self.connect_packet[:RECORD_BYTES])
                self.connect_packet = self.connect_packet[RECORD_BYTES:]
                flushed = stream.flush()
            if flushed:
                stream.stage = "connack"
        # Reading comes before waiting: what mbedTLS has buffered already does not show in the
        # socket. It comes before the peer is judged, too: what it has said may have waited for us.
        self.heard = self._read() > 0
        left_ms = self._left_ms(now_ms())
        if not self.heard and stream.wait(min(wait_ms, left_ms), not flushed):
            self.heard = self._read() > 0

    def _left_ms(self, now: int) -> int:
        """Return how long nothing needs to be done; OSError(ETIMEDOUT) if a deadline has passed."""
        left_ms = self.deadline_ms - now if self.deadline_ms else 1 << 29
        if self.up and left_ms > 0:
            due_ms = self.session.due(now)
            if not due_ms:
                self.sock.write(_PINGREQ)
                self.sock.flush()
                due_ms = 1
            left_ms = min(left_ms, due_ms)
        if left_ms <= 0:
            raise OSError(errno.ETIMEDOUT)
        return left_ms

    def _translated(self, error: BaseException, stage: "Stage") -> "SecureMQTTError | None":
        try:
            with temporary():
                from ..diagnosis.translate import translate

                return translate(error, stage, self.settings, self._probe)
        except MemoryError:
            from ..errors import OutOfMemory

            return OutOfMemory()

    def _probe(self, settings: "Settings") -> "Finding | None":
        """Ask the broker once more what it has against this device."""
        with temporary():
            from .probe_mbedtls import probe

            return probe(settings, self.owner.patience_ms())

    def _alive(self) -> None:
        """Feed the watchdog amid a write that takes long, and gets on."""
        if self.owner.watchdog is not None:
            self.owner.watchdog.feed(True, now_ms())

    # Sending

    def send(self, delivery: "Delivery", packet_id: int = 0, dup: int = 0) -> None:
        """See base.py; also for what goes out again by itself, with the packet id that it had."""
        if delivery.qos and not packet_id:
            packet_id = self.session.add(delivery)
        self.pid = packet_id - 1  # umqtt takes the next one
        try:
            # umqtt puts `retain` into the first byte as it is, where DUP is bit 3.
            self.publish(
                delivery.topic.encode(),
                delivery.payload,
                (1 if delivery.retain else 0) | dup,
                delivery.qos,
            )
        except _Written:
            return
        except AssertionError:
            if delivery.qos != 2:  # else it is umqtt's way not to do QoS 2
                raise
        except MemoryError as error:  # it is in the window, so the next connection sends it again
            self.sock.broken = error
        finally:
            if not delivery.qos:
                self.owner.acknowledged(delivery)

    def ping(self) -> None:
        if self.session.ask(now_ms()):
            self.sock.write(_PINGREQ)

    def is_released(self, packet_id: int) -> bool:
        return packet_id in self.released

    def wait_msg(self) -> None:
        """Leave umqtt's code where it has written a packet and would wait for the answer."""
        # A new one each time: MicroPython adds to the traceback of an exception that is raised
        # again, without bound.
        raise _Written

    def request(self, topic_filter: str, qos: int) -> None:
        from . import umqtt_receiving

        umqtt_receiving.request(self, topic_filter, qos)

    def acknowledge(self, message: "Message") -> None:
        from . import umqtt_receiving

        umqtt_receiving.acknowledge(self, message)

    # The end

    def leave(self) -> None:
        if self.up:
            self.up = self.heard = False
            self.leaving = True
            self.deadline_ms = now_ms() + _CLOSE_MS
            self.sock.write(_DISCONNECT)

    def _leave_further(self, wait_ms: int) -> None:
        """Write what is left, then throw away what comes until the peer closes.

        A socket that is closed with something unread is reset, and with that the peer may lose what
        was written last: acknowledgements, and DISCONNECT (RFC 1122, section 4.2.2.13).
        """
        stream = self.sock
        left_ms = self.deadline_ms - now_ms()
        try:
            if left_ms > 0:
                flushed = stream.flush()
                if not (flushed and stream.discard()):
                    stream.wait(min(wait_ms, left_ms), not flushed)
                return
        except (OSError, MemoryError):
            # As it should be; or the peer had gone already, and the broker sends the will.
            pass
        self.close()

    def close(self) -> None:
        self.up = self.heard = self.leaving = False
        self._attempt = None
        self.connect_packet = b""
        self.sock.close()
        self.reader.reset()

    # Reading

    def _read(self) -> int:
        """Handle what is there; return how many bytes it was."""
        reader = self.reader
        total = 0
        while True:
            space = reader.space()
            count = self.sock.readinto(space)
            total += count
            if count:
                reader.fed(count)
                now = now_ms()
                self.session.received_ms = now
                while self._handle(reader):
                    self.deadline_ms = 0
                if not reader.partial():
                    self.deadline_ms = 0
                elif not self.deadline_ms:
                    self.deadline_ms = now + _PACKET_MS
            if count < len(space) or total >= _TURN_BYTES:
                return total

    def _handle(self, reader: "Reader") -> bool:
        """Handle the next packet; return True if there was one."""
        kind = reader.next()
        if not kind:
            return False
        if not self.up:
            with temporary():
                from . import opening

                session_present = opening.take_connack(self, kind)
            self.owner.connected(session_present)
        elif kind == _PUBACK:
            packet_id = reader.data[reader.at] << 8 | reader.data[reader.at + 1]
            delivery = self.session.find(packet_id)
            # Of QoS 2, too: RabbitMQ answers so, and it is final.
            if delivery is not None and not isinstance(delivery, str):
                self.session.remove(packet_id)
                self.released.discard(packet_id)
                self.owner.acknowledged(delivery)
        elif kind == _PINGRESP:
            self.session.pong()
        else:
            from . import umqtt_receiving  # a device that only sends does without

            umqtt_receiving.take(self, kind)
        return True
