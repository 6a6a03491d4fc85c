"""Random histories of a device: the real client over a connection in memory, against a model of
what must come of it.

`History` has a step for each thing that can happen, in any order: messages published and
acknowledged, rightly, wrongly, twice or never; bytes that arrive in pieces; connections lost and
made again, with and without the session; a broker that is silent; time that passes. After each step
`check` compares the device with the model; after `come_to_rest` nothing may be missing. The steps
take plain numbers, so a seed drives them on either interpreter, and hypothesis on CPython.
"""

import os
import random

from securemqtt import Client, log_to
from securemqtt.errors import OutboxFull
from securemqtt.messages import Delivery
from support.interpreters.either import copy_files, directory, scratch, write
from support.models.broker_model import STATE_TOPIC, TOPIC, WINDOW, Broker, Device, Tap
from support.models.wire import World
from support.packets import PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, UNSUBACK, answer

KEEP_ALIVE_MS = 20000
CONNECT_TIMEOUT_MS = 30000
MAX_MESSAGES = 12
MAX_BYTES = 2000
MAX_PACKET_BYTES = 4096
OVERHEAD_BYTES = 64
BACKOFF_CAP_MS = 120000
STABLE_MS = 30000
PACKET_MS = 30000
# The smallest journal there is, so that it is often full; where one is full, room is looked for
# again after so long.
JOURNAL_BYTES = 32768
BLOCK_BYTES = 4096
FULL_MS = 60000
RECORD_BYTES = 22  # what the journal adds to a payload, the topic included
INTERVAL_MS = 5000


class History:
    """A device, its broker and the network between them.

    For a `with` block, since `World` stands in the real network's place.
    """

    restarts = 0

    def __init__(
        self,
        seed: int,
        when_full: str = "refuse",
        durable: str = "",
        watchdog: object = None,
        client: type = Client,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        **options: object,
    ) -> None:
        """`durable`: the policy of a journal, each or interval; without one, the outbox is in
        memory. `watchdog`, `options`: see the client's.
        """
        random.seed(seed)
        log_to(lambda level, text: None)
        self.world = World().__enter__()
        self.world.on_connect = self._connected
        self.world.on_end = self._ended
        self.broker = Broker(self._send)
        self.device = Device()
        self.device.clean_session = bool(options.get("clean_session"))
        self.when_full = when_full
        self.watchdog = watchdog
        self.max_packet_bytes = max_packet_bytes
        self._client_class = client
        self._options = options
        self.deliveries = []
        self.expiries_ms = {}  # by number
        self.published_ms = []
        self._sizes = []  # of the payloads
        self.newest = -1  # the number of the last message of which only the newest counts
        self.filters = {"c/x"}
        self.handled = []
        self._tap = None
        self._sent_down = 0
        self._once = []  # payloads that were sent to the device at QoS 1 and 2
        self._failures = 0
        self._lost_ms = None
        self._lost_count = 0
        self._turned_ms = 0
        # Until when a peer has time that was silent while the device did not listen.
        self._grace_ms = 0
        self.durable = durable
        self._journal = self._new_journal() if durable else None
        self._born = 0  # how many messages earlier processes have published
        self._over = 0  # how many of the first messages are acknowledged or dropped for certain
        self._dropped = 0  # how many messages earlier processes have dropped
        self._full_ms = -FULL_MS  # when the journal may have been full last
        self._safe_ms = 0  # what was published before is in storage
        self._safe = 0  # so are as many of the first messages
        self._gone = set()  # numbers of messages that a kill may have cost
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        """Start the device's program."""
        write(scratch() + "/ca.der", b"any")
        self.client = self._client_class(
            host="broker.example",
            client_id="d",
            ca=[scratch() + "/ca.der"],
            username="d",  # in place of a certificate
            password="",
            window=WINDOW,
            keep_alive_s=KEEP_ALIVE_MS // 1000,
            connect_timeout_s=CONNECT_TIMEOUT_MS // 1000,
            max_packet_bytes=self.max_packet_bytes,
            outbox="durable" if self._journal else "ram",
            outbox_dir=self._journal,
            outbox_fsync=self.durable or "each",
            outbox_interval_s=INTERVAL_MS // 1000,
            outbox_journal_bytes=JOURNAL_BYTES,
            outbox_messages=MAX_MESSAGES,
            outbox_bytes=MAX_BYTES,
            outbox_full=self.when_full,
            watchdog=self.watchdog,
            **self._options,
        )
        for topic_filter in self.filters:
            handler = self._handle if topic_filter == "c/x" else _ignore
            self.client.subscribe(topic_filter, handler, 2)
        self.client.start()

    def _handle(self, message: object) -> None:
        self.handled.append(message.payload)

    def _new_journal(self) -> str:
        History.restarts += 1
        return directory(f"journal-{History.restarts}")

    def close(self) -> None:
        """Put the real network back."""
        self.world.__exit__()

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _connected(self) -> None:
        self.broker.cut()
        if self._tap is not None and self._tap.accepted_ms is None:
            self.device.doubtful = self.device.ever_doubtful = True
        self._tap = tap = Tap(self.device, self.world.wire, lambda: self.world.now_ms)
        tap.ordered = not self._out_of_order()
        self.world.on_write = tap.written
        self.world.on_read = tap.read

    def _ended(self) -> None:
        """The device has closed the connection: what it wrote before arrives all the same."""
        wire = self.world.last
        if not wire.lost:
            self.broker.take(bytes(wire.up))
        self.broker.cut()

    def _out_of_order(self) -> bool:
        """Return True if a message was passed over: one at which the broker seems to hang up; or if
        one may come before those that are to go alone, since the broker had it half-way (QoS 2).
        """
        parking = self.client._connection.outbox.parking
        return parking is not None and bool(
            parking.parked.entries
            or parking._notes
            or parking._passed_over()
            or (parking.careful and self.device.released)
        )

    def _send(self, data: bytes, mark: int) -> None:
        self.world.last.down += data
        self._tap.sent(data, mark)

    # What the device's program does

    def publish(self, size: int, qos: int, expires_s: int, newest_only: bool = False) -> None:
        """Publish a message of about `size` bytes, at most 1,900; 0 s: it does not expire."""
        number = len(self.deliveries)
        payload = self.payload(number, size)
        full = self._full(len(payload), qos)
        if newest_only:
            self.newest = number
        try:
            delivery = self.client.publish(
                STATE_TOPIC if newest_only else TOPIC,
                payload,
                qos,
                False,
                expires_s or None,
                newest_only,
            )
        except OutboxFull:
            assert full, "refused, and there was room"
            assert self.when_full != "drop_newest"
            return
        if full and self.when_full == "refuse" and not self._journal and not newest_only:
            assert any(delivery.dropped for delivery in self.deliveries), (
                "taken, and there was no room"
            )
        if expires_s:
            self.expiries_ms[number] = self.world.now_ms + expires_s * 1000
        self.deliveries.append(delivery)
        self.published_ms.append(self.world.now_ms)
        self._sizes.append(len(payload))

    def payload(self, number: int, size: int) -> bytes:
        """Return the payload of a message of about `size` bytes."""
        return f"{number} ".encode() + b"x" * size

    def _full(self, payload_bytes: int, qos: int) -> bool:
        """Return True if the outbox may be, so that there is no room for a message."""
        sizes = [self._sizes[number] for number in self._perhaps_pending()] + [payload_bytes]
        in_memory = len(sizes) > MAX_MESSAGES or sum(_size(size) for size in sizes) > MAX_BYTES
        if not self._journal:
            return in_memory
        # It has seven blocks, and two neighbouring ones are more than half full together: else they
        # would have been put into one.
        if sum(size + RECORD_BYTES for size in sizes) > 3 * BLOCK_BYTES:
            self._full_ms = self.world.now_ms
        return self.world.now_ms - self._full_ms <= FULL_MS or (qos == 0 and in_memory)

    def _perhaps_pending(self) -> list:
        """Return the numbers of the messages that may be neither acknowledged nor dropped, those of
        earlier processes among them.
        """
        deliveries = self.deliveries
        ours = range(max(self._born, self._over), len(deliveries))
        return list(range(self._over, self._born)) + [
            n for n in ours if not (deliveries[n].acknowledged or deliveries[n].dropped)
        ]

    def subscribe(self, number: int) -> None:
        """Subscribe to one of a few filters."""
        self.filters.add(f"c/{number}")
        self.client.subscribe(f"c/{number}", _ignore)

    def unsubscribe(self, number: int) -> None:
        """Unsubscribe from one of them."""
        self.filters.discard(f"c/{number}")
        self.client.unsubscribe(f"c/{number}")

    def turn(self) -> None:
        """Let the device serve the network once, and run its handlers."""
        for _ in range(2):
            began_ms = self.world.now_ms
            self._safe_ms = max(self._safe_ms, began_ms - INTERVAL_MS + 1)
            self.client.poll()
            self._check_turn(began_ms)

    def _turn_by(self, function: object) -> None:
        """Have the device serve the network once by the way, as `flush` and `disconnect` do with no
        time to wait: what is lost then counts.
        """
        began_ms = self.world.now_ms
        function(0)
        self._check_turn(began_ms)

    def restart(self) -> None:
        """Kill the device's program and start it again on what it has left in storage; without a
        journal, nothing happens.
        """
        if not self._journal:
            return
        if self.world.wire is not None:
            self.world.end(self.world.wire)
        # those that the broker was not told to forget: the program subscribes to them again
        self.filters |= self.broker.filters
        if self.durable == "interval":
            unsafe = range(max(self._born, self._safe), len(self.deliveries))
            self._gone.update(
                number for number in unsafe if self.published_ms[number] >= self._safe_ms
            )
        self._dropped += self.client.stats["dropped"]
        left = self._journal
        self._journal = self._new_journal()
        copy_files(left, self._journal)
        self.deliveries[self._born :] = [
            _past(delivery) for delivery in self.deliveries[self._born :]
        ]
        self._born = len(self.deliveries)
        self._over = 0  # what no low-water mark tells of comes again
        self.device.in_use = {}
        self.device.doubtful, self.device.ever_doubtful = False, True
        self._tap = None
        self._lost_count = self._failures = 0
        self._start()

    def pause(self) -> None:
        """Leave in order, and start again."""
        self.stick(False)  # no time passes inside a step, and leaving takes the network some
        self._turn_by(self.client.disconnect)
        self._safe = len(self.deliveries)
        self.pass_time(1)  # so that the end of this connection is not taken for the loss of one
        self.client.start()

    def flush(self) -> None:
        """Have everything acknowledged or in storage."""
        self._turn_by(self.client.flush)
        self._safe = len(self.deliveries)

    # What network, broker and time do

    def carry(self, up_bytes: int, down_bytes: int) -> None:
        """Let so many bytes through, each way."""
        wire = self.world.wire
        if wire is not None:
            wire.allowed += down_bytes
            if not wire.lost:
                data, wire.up = bytes(wire.up[:up_bytes]), wire.up[up_bytes:]
                self.broker.take(data)

    def answer(self, index: int) -> None:
        """Have the broker answer one of the packets that wait for it; it may take any, but to
        PUBLISH it answers in their order.
        """
        waiting = self.broker.waiting
        if waiting:
            self._send(*waiting.pop(index % len(waiting)))

    def answer_wrongly(self, kind: int, distance: int) -> None:
        """Have the broker acknowledge what was not sent, and will not be soon."""
        packet_id = (self.device.last_id + 1000 + distance) % 65535 + 1
        if self.broker.connected and self.device.last_id and packet_id not in self.broker.outgoing:
            first = (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)[kind]
            self._send(answer(first, packet_id, b"\1" if first == SUBACK else b""), -1)

    def send_down(self, qos: int, size: int = 0) -> None:
        """Have the broker send a message, and so many bytes more."""
        if (
            self.broker.connected
            and "c/x" in self.broker.filters
            and len(self.broker.outgoing) < 10
        ):
            self._sent_down += 1
            text = str(self._sent_down) + "." * size
            self.broker.publish(qos, text)
            if qos:
                self._once.append(text.encode())

    def lose(self, down_bytes: int) -> None:
        """Lose the connection; the device may still read so many bytes."""
        wire = self.world.wire
        if wire is not None and not wire.lost:
            wire.lost = True
            wire.down = wire.down[:down_bytes]
            wire.allowed = down_bytes
            self.broker.cut()

    def lose_answers(self, forget_session: bool) -> None:
        """Lose the connection when all that the device wrote has arrived, and none of the answers,
        CONNACK for one.
        """
        if forget_session and not self.broker.connected:
            self.broker.session = False
        self.carry(1 << 30, 0)
        self.lose(0)

    def forget_session(self) -> None:
        """Restart the broker, which forgets its session."""
        self.lose(0)
        self.broker.session = False

    def reach(self, reachable: bool) -> None:
        """Set whether a connection can be made."""
        self.world.reachable = reachable

    def stick(self, stuck: bool) -> None:
        """Set whether the network takes nothing from the device."""
        wire = self.world.wire
        if wire is not None:
            wire.stuck = stuck
            wire.was_stuck = wire.was_stuck or stuck

    def pass_time(self, duration_ms: int) -> None:
        """Let time pass."""
        self.world.now_ms += duration_ms

    # What must hold

    def _check_turn(self, now: int) -> None:
        """After a turn that began `now`: silence is noticed in time and not too early, and attempts
        follow each other as promised.
        """
        client, tap = self.client, self._tap
        wire = self.world.wire
        failures = client.stats["failures"]
        if failures > self._lost_count:
            assert failures == self._lost_count + 1
            self._lost_count = failures
            self._check_loss()
        if client.state == "waiting":
            assert now - self._lost_ms < self._longest_ms(), (
                f"no attempt for {now - self._lost_ms} ms"
            )
        elif client.connected:
            silent_ms = now - wire.heard_ms
            self._give_grace(silent_ms, now, wire)
            assert silent_ms < KEEP_ALIVE_MS * 3 // 2 or now < self._grace_ms, (
                f"silence of {silent_ms} ms was not noticed"
            )
            assert wire.stuck or tap.pings or silent_ms < KEEP_ALIVE_MS, (
                f"no ping in {silent_ms} ms"
            )
        elif wire is not None:
            assert now - self.world.attempted_ms <= CONNECT_TIMEOUT_MS, "the attempt has no end"
        self._turned_ms = now

    def _give_grace(self, silent_ms: int, now: int, wire: object) -> None:
        """Note that the device listens again: it cannot know what was said meanwhile."""
        away = now - self._turned_ms > KEEP_ALIVE_MS
        if (
            away
            and silent_ms > KEEP_ALIVE_MS
            and self._grace_ms - KEEP_ALIVE_MS // 2 <= wire.heard_ms
        ):
            self._grace_ms = now + KEEP_ALIVE_MS // 2

    def _longest_ms(self) -> int:
        return min(BACKOFF_CAP_MS, 1000 << self._failures - 1) + 1

    def _check_loss(self) -> None:
        tap, now = self._tap, self.world.now_ms
        self._lost_ms = now
        up_ms = 0
        name = type(self.client.last_error).__name__
        if tap is not None and self.world.last.ended_ms == now:
            wire = self.world.last
            if tap.accepted_ms is not None:
                up_ms = now - tap.accepted_ms
            silent_ms = now - wire.heard_ms
            if name == "TimedOut" and not wire.was_stuck:
                partial_ms = now - tap.partial_ms if tap.partial_ms is not None else 0
                limit_ms = (
                    KEEP_ALIVE_MS * 3 // 2 if tap.accepted_ms is not None else CONNECT_TIMEOUT_MS
                )
                since_ms = (
                    silent_ms if tap.accepted_ms is not None else now - self.world.attempted_ms
                )
                assert since_ms >= limit_ms or partial_ms > PACKET_MS, (
                    f"given up after {since_ms} ms"
                )
                if tap.accepted_ms is not None and partial_ms <= PACKET_MS:
                    away = now - self._turned_ms > KEEP_ALIVE_MS
                    given_ms = self._grace_ms - KEEP_ALIVE_MS // 2
                    assert now >= self._grace_ms and (not away or given_ms > wire.heard_ms), (
                        "given up by a device that had not listened"
                    )
        assert name in ("TimedOut", "ConnectionLost", "ConnectionRefused", "MessageRefused"), (
            self.client.last_error
        )
        self._failures = 1 if up_ms >= STABLE_MS else self._failures + 1

    def check(self) -> None:
        """At any time: bounds kept, nothing acknowledged that the broker has not got, nothing
        dropped that must not be.
        """
        live = 0
        live_bytes = 0
        received = set(self.broker.received)
        for number, delivery in enumerate(self.deliveries):
            if number < self._born:
                continue
            assert not (delivery.acknowledged and delivery.dropped), number
            if delivery.acknowledged:
                assert not delivery.qos or number in received, (
                    f"{number} is acknowledged and was not received"
                )
            elif delivery.dropped:
                left = _is_left(delivery)
                assert left or self._may_go(number) or self.when_full != "refuse", (
                    f"{number} was dropped"
                )
                assert left or number not in received or delivery.error is not None, (
                    f"{number} was dropped after it was sent"
                )
                assert self.client.stats["dropped"], f"{number} was dropped, and none was counted"
            elif not _is_left(delivery):
                live += 1
                live_bytes += _size(self._sizes[number])
        pending = self.client.pending
        perhaps = len(self._perhaps_pending())
        assert live <= pending <= perhaps, (
            f"{pending} pending, {live} to {perhaps} neither acknowledged nor dropped"
        )
        if not pending:
            self._over = len(self.deliveries)
        if self._journal:
            assert _blocks_taken(self._journal) * BLOCK_BYTES <= JOURNAL_BYTES, (
                "the journal is larger than it may be"
            )
        else:
            assert live <= MAX_MESSAGES and live_bytes <= MAX_BYTES
        assert self.broker.acknowledged <= len(self.handled), "acknowledged before it was handled"

    def _may_go(self, number: int) -> bool:
        """Return True if a message may be dropped: it has expired, a newer one counts in its place,
        or a kill came before it was written.
        """
        superseded = number < self.newest and self.deliveries[number].topic == STATE_TOPIC
        return (
            superseded
            or number in self._gone
            or self.world.now_ms >= self.expiries_ms.get(number, 1 << 30)
        )

    def come_to_rest(self) -> None:
        """Let everything come to rest: then nothing is missing.

        What follows, undisturbed, arrives exactly once.
        """
        self.reach(True)
        self._rest()
        self._check_all()
        first_down, first_up = self._sent_down + 1, len(self.deliveries)
        for qos in (2, 1, 2):
            self.send_down(qos)
            self.publish(0, qos, 0)
        self._rest()
        self._check_all()
        assert self._sent_down == first_down + 2
        for number in range(first_down, first_down + 3):
            assert self.handled.count(str(number).encode()) == 1, f"message {number} to the device"
        for number in range(first_up, first_up + 3):
            assert self.broker.received.count(number) == 1, f"message {number}"

    def _rest(self) -> None:
        for _ in range(1000):
            self.stick(False)
            self.carry(1 << 30, 1 << 30)
            while self.broker.waiting:
                self.answer(0)
            self.turn()
            self.check()
            if self.client.connected and not self.client.pending and self._quiet():
                return
            if self.client.state == "waiting":
                self.pass_time(5000)
            elif self.client.stats["parked"]:
                self.pass_time(11000)
            else:
                self.pass_time(500 if self._out_of_order() else 1)

    def _check_all(self) -> None:
        received = set(self.broker.received)
        owed = [
            n for n, delivery in enumerate(self.deliveries) if delivery.qos and not delivery.dropped
        ]
        missing = [n for n in owed if not (n in received or self._may_go(n))]
        # what a later process has dropped, nobody holds a delivery of
        if self.when_full != "refuse":
            missing = (
                missing[self._dropped + self.client.stats["dropped"] :]
                if missing[-1:] < [self._born]
                else missing
            )
        assert not missing, f"lost: {missing}"
        assert self.client.pending == 0, f"{self.client.pending} never left"
        assert all(
            delivery.acknowledged or delivery.dropped for delivery in self.deliveries[self._born :]
        )
        assert self.broker.filters == self.filters, (
            f"{self.broker.filters} instead of {self.filters}"
        )
        assert not self.broker.outgoing, f"not acknowledged: {self.broker.outgoing}"
        assert not self.device.in_use, f"in use for ever: {self.device.in_use}"
        # Exactly once is a promise within a session, for QoS 1 that comes in, too: nothing here is
        # alike.
        if self.broker.sessions == 1 and not self.device.ever_doubtful:
            twice = [
                n
                for n, delivery in enumerate(self.deliveries)
                if delivery.qos == 2 and self.broker.received.count(n) > 1
            ]
            assert not twice, f"arrived twice: {twice}"
            twice = [text for text in self._once if self.handled.count(text) != 1]
            assert not twice, f"not handled exactly once: {twice}"

    def _quiet(self) -> bool:
        wire = self.world.wire
        return not (
            wire.up
            or wire.down
            or self.device.in_use
            or self.broker.outgoing
            or self.broker.filters != self.filters
        )


def _ignore(message: object) -> None:
    """Do nothing with a message."""


def _past(delivery: Delivery) -> Delivery:
    """Return what is known of a message once its process is gone, without the process: a small heap
    holds one client.
    """
    past = Delivery(delivery.topic, b"", delivery.qos, False)
    past.acknowledged, past.dropped = delivery.acknowledged, delivery.dropped
    return past


def _is_left(delivery: Delivery) -> bool:
    """Return True if there was no memory for a message: then its delivery may tell late that it was
    dropped, and say so because others were.
    """
    return type(delivery) is not Delivery


def _blocks_taken(path: str) -> int:
    """Count the blocks that the files of a journal take."""
    names = [name for name in os.listdir(path) if name != "lock"]  # noqa: PTH208
    return sum((os.stat(path + "/" + name)[6] + BLOCK_BYTES - 1) // BLOCK_BYTES for name in names)  # noqa: PTH116


def _size(payload_bytes: int) -> int:
    """Return what a message counts against the outbox's bound."""
    return payload_bytes + len(TOPIC) + OVERHEAD_BYTES
