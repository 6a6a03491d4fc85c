"""publish from a callback, or a signal handler, that strikes amid the program's own publish and
the client's own work: nothing is lost, nothing comes twice, all is counted.
"""

import time

from common import collector, device, granted, observer, ok, topic, until

try:
    import micropython
except ImportError:
    micropython = None
    import signal

ROUNDS = 120


class Callback:
    """Publishes once, `point` jumps of the bytecode after it was set; on a computer so many
    microseconds and some, which is not as exact.
    """

    def __init__(self, client):
        self.client = client
        self.count = 0
        self.left = 0
        if micropython is None:
            signal.signal(signal.SIGALRM, self.strike)

    def set(self, point):
        self.left = point
        if micropython is None:
            signal.setitimer(signal.ITIMER_REAL, 0.00001 + point * 0.000002)
        else:
            micropython.schedule(self.run, 0)

    def run(self, _):
        if self.left:
            self.left -= 1
            micropython.schedule(self.run, 0)
        else:
            self.strike()

    def strike(self, *_):
        self.client.publish("~/callback", str(self.count))
        self.count += 1


with observer() as watching:
    mine = collector(watching, topic("program"))
    callbacks = collector(watching, topic("callback"))
    ok(until(lambda: granted(watching), watching), "the observer is there")
    total = 0

    def all_there(count):
        return lambda: len(mine) + len(callbacks) >= 2 * count

    for outbox in ("ram", "durable"):
        client = device(outbox=outbox)
        callback = Callback(client)
        callback.count = total
        client.connect()
        for point in range(ROUNDS):
            callback.set(point)
            client.publish("~/program", str(total))
            total += 1
            end = time.time() + 30
            while (callback.count < total or client.pending > 20) and time.time() < end:
                client.wait(0)
                watching.poll()  # a board's inbox is small, and its session is a clean one
        ok(callback.count == total, "it struck each time, " + outbox)
        ok(until(lambda one=client: one.flush(0), watching), "all is acknowledged, " + outbox)
        stats = client.stats
        ok(stats["sent"] == stats["acknowledged"] == 2 * ROUNDS, "all is counted, " + outbox)
        client.disconnect()
        ok(until(all_there(total), watching), "all has arrived, " + outbox)
        wanted = [str(number).encode() for number in range(total)]
        ok(mine == wanted, "the program's came once and in order, " + outbox)
        ok(callbacks == wanted, "and the callback's, " + outbox)
