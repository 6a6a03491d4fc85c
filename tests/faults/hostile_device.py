"""A device that meets a hostile broker: run by CPython and by MicroPython; prints what it went
through as one line of JSON.

Arguments: the bundle's directory, options of Client as JSON, and for how many seconds to stay
unless something goes wrong or a message on the topic `end` comes.
"""

import gc
import json
import sys
import time

from securemqtt import Client, Message, log_to
from securemqtt.errors import SecureMQTTError

# What the device's own program does at a time; a turn that takes much longer was held up by the
# broker.
_WAIT_S = 0.1


def now_ms() -> int:
    return time.monotonic_ns() // 1000000 if hasattr(time, "monotonic_ns") else time.ticks_ms()


def main(bundle: str, options: str, stay_s: str) -> None:
    log_to(lambda level, text: None)
    received = []
    topics = []

    def on_message(message: Message) -> None:
        received.append(len(message.payload))
        topics[:] = [message.topic]

    client = Client(bundle, **json.loads(options))
    client.subscribe("#", on_message)
    began = now_ms()
    connected = None
    longest = 0
    error = None
    try:
        client.connect(float(stay_s))
        connected = now_ms()
        while (
            client.last_error is None
            and now_ms() - connected < float(stay_s) * 1000
            and topics != ["end"]
        ):
            before = now_ms()
            client.wait(_WAIT_S)
            longest = max(longest, now_ms() - before)
            if len(received) > 1000:
                del received[:-10]
        error = client.last_error
    except SecureMQTTError as raised:
        error = raised
    ended = now_ms()
    gc.collect()
    report = {
        "connected": client.stats["connects"] > 0,
        "error": None if error is None else type(error).__name__,
        "text": str(error),
        "explained": error is None or bool(error.cause and error.remedy),
        "after_ms": ended - (connected or began),
        "longest_wait_ms": longest,
        "received": received,
        "stats": client.stats,
        "heap_bytes": gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0,
    }
    print(json.dumps(report))


main(*sys.argv[1:])
