"""Histories with a broker that hangs up at some messages: the real client over a connection in
memory, as in history.py, but in small steps of time, and in whatever weather.
"""

from support.models.broker_model import Broker
from support.models.history import History
from support.packets import Packet

STEP_MS = 20
# A broker that answers takes so long, at most.
ANSWER_MS = 200


class HungUp(Exception):
    """The broker has ended the connection."""


class RefusingBroker(Broker):
    """A broker that ends the connection at messages with `!` in them, and at any while it is
    `over_quota`.
    """

    over_quota = False
    lenient = False
    refusals = 0
    hung_up = False

    def take(self, data: bytes) -> None:
        """Bytes of the device have arrived, up to the first message that is refused."""
        try:
            super().take(data)
        except HungUp:
            self.hung_up = True

    def cut(self) -> None:
        """The connection is gone."""
        super().cut()
        self.hung_up = False

    def _published(self, message: Packet) -> None:
        if self.over_quota or (b"!" in message.payload and not self.lenient):
            self.refusals += 1
            raise HungUp
        super()._published(message)


class Refusals(History):
    """A device whose broker hangs up at some of its messages."""

    def __init__(self, random: object, durable: str = "") -> None:
        self._random = random
        self.bad = set()  # numbers of the messages that the broker refuses
        super().__init__(random.below(1 << 20), "refuse", durable)
        self.broker = RefusingBroker(self._send)
        self._told = 0

    def say(
        self, refused: bool, qos: int = 1, expires_s: int = 0, newest_only: bool = False
    ) -> None:
        """Publish a message, one that the broker refuses or one that it takes."""
        count = len(self.deliveries)
        self._mark = b"!" if refused else b"x"
        self.publish(10, qos, expires_s, newest_only)
        if refused and len(self.deliveries) > count:
            self.bad.add(count)

    def payload(self, number: int, size: int) -> bytes:
        return f"{number} ".encode() + self._mark * size

    def step(self, step_ms: int = STEP_MS) -> None:
        """Let a little time pass: the network carries all, the broker answers some, or hangs up."""
        self.pass_time(step_ms)
        self.carry(1 << 30, 0)
        while self.broker.waiting and self._random.chance(100 * step_ms // ANSWER_MS + 5):
            self.answer(0)
        self.carry(0, 1 << 30)
        self.turn()

    def carry(self, up_bytes: int, down_bytes: int) -> None:
        """Let so many bytes through, each way, unless the broker hangs up."""
        super().carry(up_bytes, down_bytes)
        if self.broker.hung_up:
            # What it had not read when it closed makes that a reset: answers may be lost with it.
            while self.broker.waiting and self._random.chance(70):
                self.answer(0)
            self.lose(self._random.below(40))

    def run(self, duration_ms: int, done: object = None, step_ms: int = STEP_MS) -> int:
        """Let time pass until `done` holds, but no longer than so; return for how long it did."""
        began_ms = self.world.now_ms
        while self.world.now_ms - began_ms < duration_ms and not (done and done()):
            waiting = self.client.state == "waiting"
            self.step(250 if waiting else step_ms)
        self.check()
        return self.world.now_ms - began_ms

    def storm(self, duration_ms: int) -> None:
        """Let bad weather pass: resets, takeovers, restarts, limits on the rate, publishes."""
        random = self._random
        end_ms = self.world.now_ms + duration_ms
        quota_ms = 0
        while self.world.now_ms < end_ms:
            self.broker.over_quota = self.world.now_ms < quota_ms
            kind = random.below(1000)
            if kind < 15:
                self.say(random.chance(10), random.pick((0, 1, 1, 2)))
            elif kind < 22:
                self.lose(random.below(60))
            elif kind < 24:
                self.lose_answers(False)
            elif kind < 26:
                self.forget_session()
            elif kind < 27:
                quota_ms = self.world.now_ms + random.below(20000)
            elif kind < 29:
                self.reach(random.chance(50))
            elif kind < 31:
                self.restart()
            self.step()
        self.broker.over_quota = False
        self.reach(True)

    def good_left(self) -> bool:
        """Return True if a message that the broker takes has not arrived, or is not known to."""
        return any(
            not (delivery.acknowledged or delivery.dropped or number in self.bad)
            for number, delivery in enumerate(self.deliveries)
        )

    def wrongly_parked(self) -> int:
        """Count the messages that were parked, and the broker takes."""
        return sum(
            delivery.error is not None and number not in self.bad
            for number, delivery in enumerate(self.deliveries)
        )
