"""A device that publishes numbered messages and handles numbered commands, whatever happens: run by
CPython and by MicroPython.

Arguments: the bundle's directory, options of Client as JSON, the topic, and the pause between two
messages in ms. Each line on its standard input is a command, answered by one line of JSON that says
how the device stands: `report` is nothing but that, `finish N` ends the publishing and waits for up
to N seconds until all but what is parked is acknowledged.

What a program does to itself: `slow N`, the handler of the next command takes N seconds; `raise N`,
those of the next N commands raise; `pace N`, that of what comes in bursts takes N ms; `poison N`,
a message of N bytes, for a broker that takes no such ones; `fork`, a child publishes with this
client, on a computer; `callbacks N`, N messages from callbacks that interrupt it.
"""

import json
import os
import select
import sys
import time

from securemqtt import log_to
from securemqtt.errors import OutboxFull, UsageError

if os.getenv("SECUREMQTT_TEST_FACE") == "asyncio":
    here = __file__.rpartition("/")[0]
    sys.path.insert(0, here + "/../contract/scenarios")
    from asyncio_face import Client
else:
    from securemqtt import Client

try:
    import micropython
except ImportError:
    micropython = None
    import signal
    import threading

STEP_S = 0.02
# A callback strikes so many jumps of the bytecode after it was set, at most.
POINTS = 120
THREAD_PAUSE_S = 0.02


def now_ms() -> int:
    return time.monotonic_ns() // 1000000 if hasattr(time, "monotonic_ns") else time.ticks_ms()


class Numbers:
    """Numbered messages on one topic; published by one kind of caller only."""

    def __init__(self, client: Client, topic: str) -> None:
        self.client = client
        self.topic = topic
        self.published = 0
        self.waiting = []

    def publish(self) -> None:
        try:
            delivery = self.client.publish(self.topic, str(self.published))
        except OutboxFull:  # what was not taken is not lost, and its number comes next time
            return
        self.waiting.append((self.published, delivery))
        self.published += 1

    def confirmed(self) -> int:
        """Return how many are acknowledged."""
        for entry in list(self.waiting):
            if entry[1].acknowledged:
                self.waiting.remove(entry)
        return self.published - len(self.waiting)

    def parked(self) -> list:
        """Return the numbers of those that are parked."""
        return [number for number, delivery in list(self.waiting) if delivery.parked]


class Callbacks:
    """Publishes where it interrupts the client's own work: in a callback of `micropython.schedule`
    on a board; in a signal handler, and a thread beside it, on a computer.
    """

    def __init__(self, client: Client, topic: str) -> None:
        self.struck = Numbers(client, topic + "/callback")
        self.beside = Numbers(client, topic + "/thread")
        self.left = 0
        self.point = 0
        self.jumps = 0
        self.pending = False
        if micropython is None:
            signal.signal(signal.SIGALRM, self.strike)

    def begin(self, count: int) -> None:
        self.left += count
        if micropython is None:
            threading.Thread(target=self.publish_beside, args=(count,), daemon=True).start()

    def publish_beside(self, count: int) -> None:
        until = self.beside.published + count
        while self.beside.published < until:
            self.beside.publish()
            time.sleep(THREAD_PAUSE_S)

    def set(self) -> None:
        """Have one strike soon, if any is left and none is to come."""
        if self.pending or not self.left:
            return
        self.pending = True
        self.point = (self.point + 7) % POINTS
        if micropython is None:
            signal.setitimer(signal.ITIMER_REAL, 0.00001 + self.point * 0.000002)
        else:
            self.jumps = self.point
            micropython.schedule(self.jump, 0)

    def jump(self, _: object) -> None:
        if self.jumps:
            self.jumps -= 1
            micropython.schedule(self.jump, 0)
        else:
            self.strike()

    def strike(self, *_: object) -> None:
        before = self.struck.published
        self.struck.publish()
        self.left -= self.struck.published - before
        self.pending = False


class Device:
    def __init__(self, bundle: str, options: str, topic: str) -> None:
        self.client = Client(
            bundle, outbox_messages=5000, outbox_bytes=1 << 20, **json.loads(options)
        )
        self.numbers = Numbers(self.client, topic)
        self.callbacks = Callbacks(self.client, topic)
        self.handled = []  # the numbers of commands, since the last report
        self.slow_s = 0.0
        self.raising = 0
        self.pace_ms = 0
        # How often handlers took long, raised, were given what comes in bursts; and the last child.
        self.slowed = 0
        self.told = 0
        self.zeros = 0
        self.child = None
        self.poisons = 0
        self.client.on_error(self.on_error)
        self.client.subscribe("~/command/number", self.on_command)
        self.client.subscribe("~/command/burst", self.on_burst, 0)

    def on_command(self, message: object) -> None:
        self.handled.append(int(message.text().split()[0]))
        if self.slow_s:
            slow_s, self.slow_s = self.slow_s, 0.0
            time.sleep(slow_s)
            self.slowed += 1
        if self.raising:
            self.raising -= 1
            raise RuntimeError("a handler that raises")

    def on_burst(self, message: object) -> None:
        time.sleep(self.pace_ms / 1000)
        self.zeros += 1

    def on_error(self, error: Exception) -> None:
        self.told += type(error) is RuntimeError

    def fork(self) -> None:
        """Have a child publish, which is to be refused, and end as a program does."""
        child = os.fork()
        if not child:
            try:
                self.client.publish(self.numbers.topic, "-1")
            except UsageError:
                sys.exit(0)
            sys.exit(1)
        self.child = os.waitpid(child, 0)[1]

    def report(self, flushed: bool) -> str:
        client = self.client
        report = dict(client.stats)
        report["published"] = self.numbers.published
        report["confirmed"] = self.numbers.confirmed()
        report["flushed"] = flushed
        report["connected"] = client.connected
        report["clock_s"] = time.time()
        report["error"] = type(client.last_error).__name__
        report["text"] = str(client.last_error)
        report["handled"], self.handled = self.handled, []
        report["slowed"] = self.slowed
        report["told"] = self.told
        report["zeros"] = self.zeros
        report["child"] = self.child
        report["poisons"] = self.poisons
        report["beside"] = {}
        report["late"] = {self.numbers.topic: self.numbers.parked()}
        for numbers in (self.callbacks.struck, self.callbacks.beside):
            numbers.confirmed()
            if numbers.published:
                report["beside"][numbers.topic] = numbers.published
                report["late"][numbers.topic] = numbers.parked()
        return json.dumps(report)

    def obey(self, command: str, number: float) -> None:
        flushed = False
        if command == "slow":
            self.slow_s = number
        elif command == "raise":
            self.raising += int(number)
        elif command == "pace":
            self.pace_ms = number
        elif command == "poison":
            self.client.publish("~/poison", bytes(int(number)))
            self.poisons += 1
        elif command == "fork":
            self.fork()
        elif command == "callbacks":
            self.callbacks.begin(int(number))
        elif command == "finish":
            flushed = (
                self.client.flush(number) or self.client.pending == self.client.stats["parked"]
            )
        print(self.report(flushed))


def main(bundle: str, options: str, topic: str, pause_ms: str) -> None:
    log_to(lambda level, text: None)
    lines = select.poll()
    lines.register(sys.stdin, select.POLLIN)
    device = Device(bundle, options, topic)
    device.client.start()
    due = now_ms()
    command = ""
    while command != "finish":
        while not lines.poll(0):
            device.callbacks.set()
            if now_ms() >= due:
                device.numbers.publish()
                due += int(pause_ms)
            device.client.wait(STEP_S)
        command, _, number = sys.stdin.readline().strip().partition(" ")
        if not command:
            return
        device.obey(command, float(number or 0))
    device.client.disconnect(5)


main(*sys.argv[1:])
