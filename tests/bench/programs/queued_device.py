"""A subscriber whose handler takes 1 ms, and what waits for it at the broker: run by CPython and by
MicroPython, `queued_device.py subscribe|drain BUNDLE COUNT`.

Prints messages per second, the kB that it took in memory at most, and how often it connected. What
comes out of order, twice or not at all is an error.
"""

import gc
import sys
import time

from securemqtt import Client, log_to

_PATIENCE_S = 300
_HANDLER_S = 0.001
# How often memory is looked at, in messages.
_LOOK_EACH = 100

if hasattr(gc, "mem_alloc"):

    def used_kb():
        """Return what is in use of the heap."""
        gc.collect()
        return gc.mem_alloc() / 1000
else:
    from pathlib import Path

    def used_kb():
        """Return what this process has in memory: pages of 4 KiB, proc(5)."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4.096


def quiet(level, text):
    """Print nothing."""


class Queue:
    """The numbers as they are handled."""

    def __init__(self):
        self.due = 0
        self.most_kb = used_kb()

    def handle(self, message):
        """Take 1 ms, and hold the number to the one that is due."""
        number = int(message.payload)
        if number != self.due:
            raise SystemExit(f"{number} came in place of {self.due}")
        self.due += 1
        if not self.due % _LOOK_EACH:
            self.most_kb = max(self.most_kb, used_kb())
        time.sleep(_HANDLER_S)


log_to(quiet)
what, bundle, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
gc.collect()
before_kb = used_kb()
client = Client(bundle)
queue = Queue()
client.subscribe("~/command/n", queue.handle)
with client:
    start = time.time()
    if what == "subscribe":
        client.publish("~/command/n", "0")
    while queue.due < count and time.time() < start + _PATIENCE_S:
        client.wait(0.02)
    if queue.due < count:
        raise OSError(f"only {queue.due} of {count} were handled")
    rate = count / (time.time() - start)
    print("figure", rate, queue.most_kb - before_kb, client.stats["connects"])
