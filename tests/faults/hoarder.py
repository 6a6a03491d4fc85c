"""A device whose application takes all the memory there is, and lets it go again: run by
MicroPython.

As sender.py, it publishes numbered messages and answers commands. Beside `report` and `finish N`:
`hoard N` takes all memory but that of N small pieces, again before each message, whatever the
library may have let go of in the meantime; `let go` ends that.
"""

import gc
import json
import select
import sys
import time

from securemqtt import Client, log_to
from securemqtt.errors import OutboxFull, OutOfMemory

STEP_S = 0.02
PIECE_BYTES = 32
# A command and its answer take this.
RESERVE_PIECES = 32
RESERVE_BYTES = 512


class Device:
    def __init__(self, bundle: str, options: str, topic: str) -> None:
        self.client = Client(
            bundle, outbox_messages=5000, outbox_bytes=1 << 20, **json.loads(options)
        )
        self.topic = topic
        self.published = 0
        self.refused = 0
        self.hoard = None
        self.left = 0
        self.reserve = None

    def step(self) -> None:
        """Publish one message, or try it again next time if there is no room for it."""
        if self.left:
            self.take()
        try:
            self.client.publish(self.topic, str(self.published))
            self.published += 1
        except (MemoryError, OutOfMemory, OutboxFull):
            self.refused += 1

    def take(self) -> None:
        try:
            while True:
                self.hoard = (bytearray(PIECE_BYTES), self.hoard)
        except MemoryError:
            for _ in range(self.left):
                self.hoard = self.hoard[1]

    def keep_reserve(self) -> None:
        """Keep room for a command, in small pieces: there may be none for a large one. The hoard
        gives way where it has taken it all.
        """
        self.reserve = None
        count = 0
        while count < RESERVE_PIECES:
            try:
                self.reserve = (bytearray(RESERVE_BYTES), self.reserve)
                count += 1
            except MemoryError:
                if self.hoard is None:
                    return
                self.hoard = self.hoard[1]

    def report(self, flushed: bool) -> str:
        report = dict(self.client.stats)
        report["published"] = self.published
        report["refused"] = self.refused
        report["flushed"] = flushed
        report["connected"] = self.client.connected
        report["error"] = type(self.client.last_error).__name__
        return json.dumps(report)

    def obey(self, command: str) -> None:
        flushed = False
        if command.startswith("hoard "):
            self.left = int(command.split()[1])
        elif command == "let go":
            self.left = 0
            self.hoard = None
        elif command.startswith("finish "):
            flushed = self.client.flush(float(command.split()[1]))
        print(self.report(flushed))


def main(bundle: str, options: str, topic: str, pause_ms: str) -> None:
    log_to(lambda level, text: None)
    lines = select.poll()
    lines.register(sys.stdin, select.POLLIN)
    device = Device(bundle, options, topic)
    device.client.start()
    due = time.ticks_ms()
    command = ""
    while not command.startswith("finish "):
        device.keep_reserve()
        while not lines.poll(0):
            if time.ticks_diff(time.ticks_ms(), due) >= 0:
                device.step()
                due = time.ticks_add(due, int(pause_ms))
            device.client.wait(STEP_S)
        device.reserve = None
        gc.collect()
        command = sys.stdin.readline().strip()
        if not command:
            return
        device.obey(command)
    device.client.disconnect(5)


main(*sys.argv[1:])
