"""A device that publishes numbered messages, whatever happens: run by CPython and by MicroPython.

Arguments: the bundle's directory, options of Client as JSON, the topic, and the pause between two
messages in ms. Each line on its standard input is a command, answered by one line of JSON: `report`
says how it stands, `finish N` ends the publishing and waits for up to N seconds until all is
acknowledged.
"""

import json
import select
import sys
import time

from securemqtt import Client, log_to
from securemqtt.errors import OutboxFull

STEP_S = 0.02


def now_ms() -> int:
    return time.monotonic_ns() // 1000000 if hasattr(time, "monotonic_ns") else time.ticks_ms()


def main(bundle: str, options: str, topic: str, pause_ms: str) -> None:
    log_to(lambda level, text: None)
    lines = select.poll()
    lines.register(sys.stdin, select.POLLIN)
    client = Client(bundle, outbox_messages=5000, outbox_bytes=1 << 20, **json.loads(options))
    client.start()
    published = 0
    due = now_ms()
    command = ""
    while command != "finish":
        while not lines.poll(0):
            if now_ms() >= due:
                try:
                    client.publish(topic, str(published))
                    published += 1
                except OutboxFull:  # what was not taken is not lost, and its number comes next time
                    pass
                due += int(pause_ms)
            client.wait(STEP_S)
        command, _, patience_s = sys.stdin.readline().strip().partition(" ")
        if not command:
            return
        flushed = command == "finish" and client.flush(float(patience_s))
        report = dict(client.stats)
        report["published"] = published
        report["flushed"] = flushed
        report["connected"] = client.connected
        report["clock_s"] = time.time()
        report["error"] = type(client.last_error).__name__
        report["text"] = str(client.last_error)
        print(json.dumps(report))
    client.disconnect(5)


main(*sys.argv[1:])
